"""The HTML and Markdown report of a run: what it reads, its pictures and its sections."""
