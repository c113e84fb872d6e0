"""What was measured as rows: CSV, Markdown, terminal, history, documents."""
