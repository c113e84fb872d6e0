"""Core ML programs evaluated off a Mac, by the saved program's own words."""
