"""Parts of the HTML report (detection/report.py puts them together)."""
