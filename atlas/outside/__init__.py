"""The way out: one file or folder for each system, named after it. Imports core only."""
