"""The files under the journal, and what can become of them.

lock.py     one process owns them, and may open them
kind.py     it is no file system over a network
folder.py   their names are kept
wal.py      the log, read before SQLite opens it
damage.py   what is broken is found, and a copy is kept
pages.py    rows out of leaves whose tree is broken
"""
