"""Journals as each version wrote them, to be opened by all that come: see make.py."""
