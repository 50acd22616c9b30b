"""The parts of a journal that do not depend on its database.

cipher.py         encrypts, and pseudonymizes users
keys.py           the operator's keys, which wrap the data key
row_codec.py      encodes and encrypts the rows; compression.py compresses payloads
entries.py        receipts, entries and files, built from rows
group_rules.py    the sizes of groups: how many exports, and which first
verdicts.py       the order in which verdicts are carried out
capacity.py       how much a journal accepts
path_times.py     the time in the path of a user's next export
bindings.py       the exports that an Idempotency-Key names
search.py         queries for entries
retention.py      how long receipts and digests are kept
texts.py          texts from outside that a database does not take
transfer.py       the content of a journal, as it is checked and moved
phones.py         the phones; phone_pages.py lists them, reports.py has what they report
personal_data.py  the record of shared files with rows of an erased person
"""
