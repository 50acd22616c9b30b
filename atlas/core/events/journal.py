"""Events of the journal: damage, restoration, and personal data erased by an operator."""

from atlas.core.events.event import Event


class UserErased(Event, frozen=True):
    """An operator erased the data of a person.

    `files` of the dataset no longer have rows of this person, and `purged` rows of the journal are
    deleted.
    """

    user: str
    files: int
    purged: int


class UnprotectedKeyFile(Event, frozen=True):
    """No key is configured, so the journal is encrypted with a key file next to it.

    A person who can read both files can read the journal.
    """

    file: str


class JournalDamaged(Event, frozen=True):
    """Data in the journal has changed on the disk. Unreadable exports are not uploaded.

    `copy` is the path of a copy of the damaged journal, made if the damage was detected at the
    start.
    """

    damage: str
    id: str | None = None
    correlation_id: str | None = None
    copy: str | None = None


class TotalsMismatch(Event, frozen=True):
    """The recorded number of exports differed from the counted one, and was corrected."""

    status: str
    noted: int
    counted: int


class JournalRestored(Event, frozen=True):
    """Exports that wait in the journal are already in the dataset: it was restored from a copy.

    People who were erased since the copy was made are in the journal again, and exports accepted
    since then are missing from it.
    """

    exports: int
