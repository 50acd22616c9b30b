"""The journal of several replicas, in one schema of a PostgreSQL database.

Each export is a row of the ledger; its payload is in a table of its own until it is committed. The
replica that holds the lease uploads; the exports that it has claimed are an array in the row of the
lease, so that a group costs no update of its exports. Every write of the uploader checks the lease.

journal.py         opens the journal and assembles its parts
preparation.py     prepares a start: waits for the database, checks it, creates the tables
address.py         the URL of the database
connections.py     connections that are opened again when they are lost
database.py        statements in the schema of the journal, and transactions
hosts.py           connects to several hosts at once
identity.py        which server answers: an old primary is refused
session_settings.py  the settings of a session, whatever those of the server
errors.py          what an error of the database means
guards.py          the settings of the server without which commits could be lost
schema.py          the tables; expansions.py adds those of later versions
keys.py            finds the key of the journal
rows.py            the columns of an export
intake.py          queues exports, which sealing.py encrypts, and insertion.py stores;
                   bindings.py stores the keys that name them
recent.py          what this replica accepted lately, in case a failover loses it;
                   offering.py stores it again
lease.py           decides which replica uploads
outbox.py          hands exports to the uploader: claims.py selects a group, conclusions.py records
                   its result, reconciliation.py compares the journal with the dataset;
                   fencing.py lets only the leader do so
stream.py          rows that are not in the stream yet
retention.py       deletes old receipts
peers.py           the other replicas: notifications, heartbeats, shared usage
dead_letters.py    exports that crashed a stage, or that were set aside
receipts.py        receipts for senders
ledger.py          entries and totals for operators; search.py finds entries
personal_data.py   the data of one person, and its erasure
observation.py     the replicas that run now, and the state of the database
inspector.py       the condition of the journal
transfer.py        all tables at once, to check or move the journal; moved_rows.py is their form
"""
