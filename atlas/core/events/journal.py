"""What becomes of the journal: by its disk, by its operator."""

from atlas.core.events.event import Event


class UserErased(Event, frozen=True):
    """An operator had a person forgotten: so many files are out of the dataset, and rows purged."""

    user: str
    files: int
    purged: int


class UnprotectedKeyFile(Event, frozen=True):
    """No key is set: the journal is sealed with one that lies beside it. Who has both reads it."""

    file: str


class JournalDamaged(Event, frozen=True):
    """Something kept in the journal has changed on the disk: what cannot be read is not sent.

    A copy of the journal as it was found is kept, if this was seen at the start.
    """

    damage: str
    id: str | None = None
    correlation_id: str | None = None
    copy: str | None = None


class TotalsMismatch(Event, frozen=True):
    """The ledger said another number of exports than there are. It says the right one now."""

    status: str
    noted: int
    counted: int


class JournalRestored(Event, frozen=True):
    """Exports that waited in the journal are in the dataset: it was restored from an older copy.

    Whoever was forgotten since is in it again, and what was accepted since is not.
    """

    exports: int
