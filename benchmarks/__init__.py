"""Commands that measure: a table on the terminal, and JSON. Not part of the installed package."""
