"""A journal in memory for the simulator of the commit protocol: the contract of `UploadQueue`.

Verdicts are carried out as in atlas/outside/sqlite/conclusions.py, claims as in claims.py; the
shares of isolated groups are smaller, so that short histories divide groups, too.
"""

from typing import get_args

from atlas.core.commits import Backlog, Conclusion, Intent, VerdictKind, WorkInHand
from atlas.core.messages import BranchSnapshot, ClaimedExport, CommitGroup, File

ORDER = {kind: position for position, kind in enumerate(get_args(VerdictKind))}
SHARES = {1: 64, 2: 2}  # isolation: exports of a group; from 3 on, alone
UNCOMMITTED = ("accepted", "claimed", "set_aside")


class Row:
    """An export in the journal."""

    __slots__ = (
        *("id", "number", "status", "isolation", "tries", "turn", "since"),
        *("transaction", "moves", "file", "file_bytes"),
    )

    def __init__(self, id, number):
        self.id, self.number, self.status = id, number, "accepted"
        self.isolation = self.tries = self.turn = self.moves = 0
        self.since = self.transaction = self.file = self.file_bytes = None

    def copy(self):
        other = Row.__new__(Row)
        for name in Row.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    @property
    def path(self):
        """Return the path of the export's own file."""
        return f"{self.id}.{self.moves}"

    @property
    def bytes(self):
        return 10 + self.number


class Journal:
    """A few dicts. `copy` is the content of a nightly backup."""

    def __init__(self, exports_max):
        self.exports_max = exports_max
        self.rows, self.intents, self.open = {}, {}, None

    def copy(self):
        other = Journal(self.exports_max)
        other.rows = {id: row.copy() for id, row in self.rows.items()}
        other.intents, other.open = dict(self.intents), self.open
        return other

    def with_status(self, status):
        return [row for row in self.rows.values() if row.status == status]

    def accept(self, id, number):
        self.rows[id] = Row(id, number)

    def backlog(self):
        fresh = failed = claimed = 0
        for row in self.rows.values():
            if row.status == "accepted":
                if row.isolation:
                    failed += 1
                else:
                    fresh += 1
            elif row.status == "claimed":
                claimed += 1
        return Backlog(fresh + claimed, failed, fresh >= self.exports_max)

    def in_hand(self):
        return WorkInHand(self.group(), self.open, tuple(self.intents.values()))

    def group(self):
        files = {}
        for row in self.rows.values():
            if row.status == "claimed":
                export = ClaimedExport(row.id, row.bytes, 1, "", None, row.isolation, row.tries)
                path = row.file or row.path
                size = row.bytes if row.file is None else row.file_bytes
                files.setdefault(path, (size, []))[1].append(export)
        if not files:
            return None
        return CommitGroup(tuple(File(path, size, tuple(x)) for path, (size, x) in files.items()))

    def claim(self, snapshot, lane):
        self.require_nothing_in_hand()
        if lane == "isolated":
            waiting = [row for row in self.with_status("accepted") if row.isolation]
            if waiting:
                isolation = min(waiting, key=in_turn).isolation
                self.claim_failed(isolation, SHARES.get(isolation, 1))
        elif self.claim_fresh():
            self.claim_failed(1, SHARES[1])
        group = self.group()
        if group is not None:
            self.record_intent(snapshot, "APPEND")
        return group

    def claim_fresh(self):
        room = self.exports_max - len(self.with_status("claimed"))
        fresh = [row for row in self.with_status("accepted") if not row.isolation]
        for row in fresh[: max(room, 0)]:
            row.status = "claimed"
        return bool(fresh)

    def claim_failed(self, isolation, exports_max):
        rows = [row for row in self.with_status("accepted") if row.isolation == isolation]
        for row in sorted(rows, key=in_turn)[:exports_max]:
            row.status = "claimed"

    def require_nothing_in_hand(self):
        assert self.open is None, "OutOfOrder: a transaction is in hand"
        assert not self.with_status("claimed"), "OutOfOrder: a group is in hand"

    def record_intent(self, snapshot, kind):
        self.intents[kind, snapshot.head] = Intent(kind, BranchSnapshot(snapshot.head, snapshot.at))

    def record_open(self, transaction):
        if self.open != transaction:
            assert self.open is None, "OutOfOrder: another transaction is open"
            assert self.intents, "OutOfOrder: no intent is recorded"
            group = self.group()
            if group is not None and not all(each.isolation for each in group.exports):
                self.claim_fresh()
            self.intents.clear()
            self.open = transaction
        return self.group() or CommitGroup(())

    def record_shared_file(self, ids):
        """Record the file shared by these exports, at a path unique in this journal."""
        rows = [self.rows[id] for id in ids]
        taken = {row.file for row in self.rows.values()}
        attempt = 0
        while (path := f"g:{rows[0].path}.{attempt}") in taken:
            attempt += 1
        size = 1 + sum(row.bytes for row in rows)
        for row in rows:
            assert row.status == "claimed", "OutOfOrder: a file of exports that are not claimed"
            row.file, row.file_bytes = path, size
        return path, size

    def conclude(self, conclusion: Conclusion):
        """Return the rows that it commits or sets aside."""
        if self.open is not None:
            assert self.open == conclusion.transaction, "OutOfOrder: another transaction is open"
        claimed = self.with_status("claimed")
        is_alone = len(claimed) == 1
        turn = 1 + max(
            (row.turn for row in self.with_status("accepted") if row.isolation), default=0
        )
        committed_before = len(self.with_status("committed"))
        committed, ended = committed_before, []
        verdicts, others = conclusion.verdicts, conclusion.default_verdict
        decided = [(row, verdicts.get(row.id, others)) for row in claimed]
        if len(decided) > 1:
            decided.sort(key=lambda each: ORDER[each[1].kind])
        for row, verdict in decided:
            kind = verdict.kind
            if kind == "committed":
                committed += 1
                row.status, row.transaction = "committed", verdict.transaction
                ended.append(row)
                continue
            row.status = "accepted"
            row.file = row.file_bytes = None
            if kind == "moved":
                row.moves += 1
            elif kind == "corrupt":
                row.status = "set_aside"
                ended.append(row)
            elif kind != "released":
                since = committed_before if row.since is None else row.since
                is_proven = verdict.is_certain or conclusion.has_evidence or committed > since
                row.since, row.turn = committed, turn
                if kind == "isolated":
                    row.isolation = 3
                    continue
                row.isolation = next_isolation(kind, row)
                row.tries += not verdict.is_unanswered
                is_last = row.tries >= conclusion.tries_max and is_proven
                if is_last and (kind == "refused" or is_alone):
                    row.status = "set_aside"
                    ended.append(row)
        self.open = None
        return ended

    def retry(self):
        """Release the exports that were set aside, as an operator does."""
        for row in self.with_status("set_aside"):
            row.status, row.tries, row.since = "accepted", 0, None

    def own_transactions(self):
        return {row.transaction for row in self.rows.values() if row.status == "committed"}


def in_turn(row):
    return row.turn, row.number


def next_isolation(kind, row):
    """Return the next isolation. SQLite's has one more step between a group and a single export."""
    if kind == "refused":
        return 1 if row.isolation in {0, 2} else row.isolation
    if row.isolation >= 2:
        return 3
    return 2 if kind == "divided" or row.tries else row.isolation
