"""What was measured as pictures: one offline HTML page, plots."""
