"""The journal: accepted exports in one SQLite file until Foundry has committed them.

One process owns the file, and one connection in one thread uses it. An operation is answered after
its commit is synced.

journal.py         opens the journal and assembles its parts
keys.py            finds the key of the journal
schema.py          the tables; upgrades.py migrates those of earlier versions
columns.py         the columns of an export
group_commit.py    runs operations on the connection, many to a commit
intake.py          accepts exports; capacity.py limits how many
outbox.py          hands exports to the uploader: claims.py selects a group, conclusions.py records
                   its result, reconciliation.py compares the journal with the dataset
retention.py       deletes old receipts and digests
dead_letters.py    exports that crashed a stage, or that were set aside
receipts.py        receipts for senders
ledger.py          entries and totals for operators; search.py finds entries
personal_data.py   the data of one person, and its erasure
inspector.py       the condition of an open journal; readonly.py: of one that no process has open
salvage.py         rebuilds a corrupt journal
transfer.py        all tables at once, to check or move the journal
held_file.py       keeps the file unchanged while a command reads it; snapshot.py reads it
backup.py          copies the journal into a file of its own
single_process.py  leadership without other replicas
disk/              the files: lock, sync, damage
"""
