"""The journal as one SQLite file: one owner, one connection, one thread; synced, then answered.

`journal.py` opens it, `commits.py` is the only one that talks to the connection, and the others
answer a port each: `intake.py` what is accepted, `receipts.py` what a sender may ask, `outbox.py`
what the uploader takes, `ledger.py` what an operator sees.
"""
