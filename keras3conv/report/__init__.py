"""Reports as data, and their text, Markdown, HTML and JSON forms."""
