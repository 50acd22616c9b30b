"""Events of a service of several replicas."""

from typing import Literal

from atlas.core.events.event import Event

EndOfLead = Literal["released", "deposed", "unconfirmed"]


class LeadershipTaken(Event, frozen=True):
    """This replica uploads from now on. `epoch` counts the leaders of the journal."""

    epoch: int


class LeadershipLost(Event, frozen=True):
    """This replica stopped uploading.

    It `released` the lease, another replica took it (`deposed`), or the database did not confirm it
    in time (`unconfirmed`).
    """

    epoch: int
    reason: EndOfLead


class JournalFailedOver(Event, frozen=True):
    """The database is another server or an older copy: it may lack the last commits."""

    before: str
    now: str


class OldPrimaryRefused(Event, frozen=True):
    """A server answered that was the primary before a failover: it is not used.

    Reported once until the present primary answers. `known` is the identity of that one.
    """

    known: str
    refused: str


class ExportsOfferedAgain(Event, frozen=True):
    """After a failover, this replica stored the exports again that it had accepted just before.

    `lost` of them were missing from the database.
    """

    exports: int
    lost: int


class ExportsStored(Event, frozen=True):
    """One statement stored these exports in the database, or found them there.

    `seconds` is the time until its commit, and until there was a connection.
    """

    exports: int
    seconds: float


class DatabaseConnectionLost(Event, frozen=True):
    """A connection to the journal's database was lost. The next statement opens another."""


class NotificationsDelayed(Event, frozen=True):
    """Notifications of the database do not arrive, so this replica polls often."""
