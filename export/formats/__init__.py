"""One format of exported files = one file, and what it promises."""
