"""The journal as one SQLite file: one owner, one connection, one thread; synced, then answered.

journal.py   opens it
keys.py      which key opens it, and which dataset it is for; seal.py: what a key does
schema.py    the tables; upgrades.py: how those of earlier versions become them
entries.py   a row, and what is sealed in it
commits.py   the only one that talks to the connection
intake.py    what is accepted; room.py: whether there is room for it
outbox.py    what the uploader takes; shelf.py: how long it is remembered
aside.py     what was set aside
receipts.py  what a sender may ask
ledger.py    what an operator sees; search.py: what he looks for
people.py    what there is of one person, and how it is forgotten
checkup.py   how it is, and look.py: the same of one that nobody serves, which changes nothing
disk/        the files below, and what can become of them
"""
