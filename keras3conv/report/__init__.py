"""Define reports as data, and write them as text, Markdown, HTML and JSON."""
