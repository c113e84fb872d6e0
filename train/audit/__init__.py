"""Label faults: where trained networks disagree with a mask, ranked, decided on, drawn anew."""
