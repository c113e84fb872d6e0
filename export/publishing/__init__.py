"""What of an export is kept for apps: golden vectors, READMEs, releases."""
