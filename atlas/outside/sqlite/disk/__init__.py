"""The files of the journal, and the damage that a disk can do to them.

lock.py             lets one process own the files, and checks that it may open them
filesystem_type.py  rejects network file systems
folder.py           durable writes and renames
wal.py              reads the write-ahead log before SQLite opens it
damage.py           detects corruption, and keeps a copy of the journal
pages.py            reads rows from leaf pages that no tree reaches
"""
