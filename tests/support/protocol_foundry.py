"""Foundry in memory for the simulator of the commit protocol: a branch with transactions.

A file is a size and the ids of the exports whose rows it holds.
"""

WINDOW_SECONDS, LATE_SECONDS = 60.0, 30.0  # an attempt may have opened it; begins can be as late
NO_ROWS = frozenset()


class Transaction:
    __slots__ = ("at", "files", "is_ours", "is_spoiled", "kind", "rid", "state")

    def __init__(self, rid, kind, at, is_ours):
        self.rid, self.kind, self.at, self.is_ours = rid, kind, at, is_ours
        self.state, self.files, self.is_spoiled = "OPEN", {}, False


class Branch:
    """A branch with at most one open transaction.

    `head_after_abort`, `listing` and `path_taken` are behavior that Foundry does not document.
    """

    def __init__(self, head_after_abort, listing, path_taken):
        self.head_after_abort, self.listing, self.path_taken = head_after_abort, listing, path_taken
        self.transactions, self.open = {}, None
        self.head = self.previous_head = ""
        self.files = {}  # visible to readers: path -> (transaction, bytes, rows)
        self.copies = {}  # copies of each export's rows
        self.late_begins, self.late_puts, self.late_ends = [], [], []  # their responses were lost

    def begin(self, kind, now, *, is_ours=True):
        assert self.open is None
        found = Transaction(f"t{len(self.transactions) + 1}", kind, now, is_ours)
        self.transactions[found.rid] = self.open = found
        self.previous_head, self.head = self.head, found.rid
        if is_ours:
            self.late_begins = []  # the assumption of grouping.upload
        return found

    def state(self, rid):
        return self.transactions[rid].state

    def can_commit(self, transaction):
        return not (transaction.files.keys() & self.files.keys())

    def commit(self, transaction):
        assert self.open is transaction
        transaction.state, self.open = "COMMITTED", None
        for path, (size, rows) in transaction.files.items():
            assert path not in self.files
            self.files[path] = transaction.rid, size, rows
            for id in rows:
                copies = self.copies[id] = self.copies.get(id, 0) + 1
                assert copies == 1, f"the rows of {id} stand twice"

    def abort(self, transaction):
        assert self.open is transaction
        transaction.state, self.open = "ABORTED", None
        if self.head_after_abort == "previous":
            self.head = self.previous_head
        elif self.head_after_abort == "none":
            self.head = ""

    def is_taken(self, transaction, path):
        """True if an upload is rejected. Some variants of Foundry reject only the commit."""
        is_told = self.path_taken == "upload" and path in self.files
        return is_told or path in transaction.files

    def put(self, rid, path, size, rows):
        """Put a file; return whether it is there."""
        transaction = self.transactions[rid]
        if transaction.state != "OPEN" or path in transaction.files:
            return False
        assert transaction.is_ours, f"a file is put into {rid}, which is somebody else's"
        transaction.files[path] = size, rows
        return True

    def find_orphan(self, intent, paths):
        found, snapshot = self.open, intent.snapshot
        if found is None or self.head == snapshot.head or found.kind != intent.kind:
            return None
        if not snapshot.at <= found.at <= snapshot.at + WINDOW_SECONDS:
            return None
        if self.listing == "listed" and found.kind != "DELETE" and not found.files.keys() <= paths:
            return None
        return found.rid

    def lose_begin(self, kind, now):
        self.late_begins.append((kind, now + LATE_SECONDS))

    def land_begin(self, now):
        """Let a begin with a lost response take effect now."""
        if self.open is None:
            kinds = [kind for kind, until in self.late_begins if now <= until]
            if kinds:
                self.begin(kinds[0], now)

    def land_others(self):
        """Let puts, commits and aborts with lost responses take effect."""
        for late in self.late_puts:
            self.put(*late)
        for rid, end in self.late_ends:
            transaction = self.transactions[rid]
            if transaction is self.open and (end == "abort" or self.can_commit(transaction)):
                (self.abort if end == "abort" else self.commit)(transaction)
        self.late_puts, self.late_ends = [], []

    def forget_late(self):
        self.late_begins, self.late_puts, self.late_ends = [], [], []
