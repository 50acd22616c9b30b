"""The part of step 5 that is about a database that several replicas share."""

from collections.abc import Iterator

from atlas.core.diagnosis import CheckOutcome, Evidence
from atlas.core.identifiers import format_duration
from atlas.core.inspection import CLOCK_SKEW_SECONDS_MAX, DatabaseHealth
from atlas.core.status import Replica
from atlas.diagnose.context import Context

TRANSACTION_SECONDS_MAX = 600.0
DEPLOY_FACTOR = 2  # during a deploy, old and new replicas run side by side
CONNECT_DIRECTLY = (
    "Connect directly or through a pooler in session mode, or set journal.pooled = true: answers "
    "come a little later then."
)
REPLICATE = (
    "A failover may lose the last seconds; replicas store again what they accepted in the last "
    "minute. Set synchronous_standby_names. If your provider replicates below PostgreSQL, set "
    'journal.standby = "elsewhere"'
)


def build_evidence(database: DatabaseHealth) -> Evidence:
    limit = "as a pooler decides" if database.connections is None else f"{database.connections:,}"
    return (
        ("database", f"PostgreSQL {database.version}"),
        ("synchronous standbys", database.standbys or "none"),
        ("checksums", "on" if database.has_checksums else "off"),
        ("connections", f"{limit}; a replica needs {database.connections_of_replica}"),
        *(("replica", describe_replica(replica)) for replica in database.replicas),
    )


def describe_replica(replica: Replica) -> str:
    role = "follows" if replica.epoch is None else f"leads (epoch {replica.epoch:,})"
    this = ", this one" if replica.is_this else ""
    return f"{replica.name}, version {replica.version}, {role}{this}"


def check_defect(database: DatabaseHealth) -> CheckOutcome | None:
    if not database.defect:
        return None
    reason, _, remedy = database.defect.rpartition(": ")
    return CheckOutcome("fail", f"The journal cannot be kept there: {reason}.", remedy)


def check_warnings(context: Context, database: DatabaseHealth) -> CheckOutcome | None:
    """Return the most urgent warning, and note the others."""
    warnings = list(find_warnings(database, context.settings.journal.standby))
    context.note(*(("warning", f"{each.reason} {each.to_do}") for each in warnings[1:]))
    return warnings[0] if warnings else None


def find_warnings(database: DatabaseHealth, standby: str) -> Iterator[CheckOutcome]:
    """Yield the warnings, most urgent first. `standby` is the setting of that name."""
    if database.replicas and not database.is_led:
        yield warn(
            "No replica uploads.",
            "Try again in ten seconds. If it lasts, see the log of the replicas, and what locks "
            "the row of the lease: SELECT * FROM pg_stat_activity ORDER BY xact_start",
        )
    skews = [(each.name, each.clock_skew_seconds) for each in database.replicas]
    for name, skew in [("this machine", database.clock_skew_seconds), *skews]:
        if abs(skew) > CLOCK_SKEW_SECONDS_MAX:
            side = "ahead of" if skew > 0 else "behind"
            yield warn(
                f"The clock of {name} is {abs(skew):,.0f} s {side} the database's.",
                "Synchronize both clocks (chrony, systemd-timesyncd): a replica with a wrong "
                "clock accepts nothing.",
            )
    age = database.oldest_transaction_seconds
    if age is not None and age > TRANSACTION_SECONDS_MAX:
        yield warn(
            f"A transaction has been open for {format_duration(age)}, so the database cannot clean "
            "up what Atlas deletes.",
            "Find it: SELECT * FROM pg_stat_activity ORDER BY xact_start, and SELECT * FROM "
            "pg_prepared_xacts. End it: SELECT pg_terminate_backend(pid). A standby may hold it, "
            "too: SELECT * FROM pg_stat_replication, and SELECT * FROM pg_replication_slots. Drop "
            "the slot of one that is gone: SELECT pg_drop_replication_slot(slot_name)",
        )
    if database.are_notifications_delayed:
        yield warn("Notifications of the database do not arrive.", CONNECT_DIRECTLY)
    needed = max(len(database.replicas), 1) * database.connections_of_replica * DEPLOY_FACTOR
    if database.connections is not None and database.connections < needed:
        yield warn(
            f"The database allows {database.connections:,} connections, and {needed:,} are needed "
            "during a deploy.",
            "Raise max_connections, or the limit of the role or database.",
        )
    versions = sorted({each.version for each in database.replicas})
    if len(versions) > 1:
        yield warn(
            f"Replicas have different versions: {', '.join(versions)}.",
            "This is normal during a deploy. If it lasts, end the old ones.",
        )
    if not database.has_checksums:
        yield warn(
            "The database has no checksums, so damage by its disk may go unnoticed.",
            "Turn them on while it is stopped: pg_checksums --enable",
        )
    if not database.standbys and standby != "elsewhere":
        yield warn("No synchronous standby is configured.", REPLICATE)


def warn(reason: str, remedy: str) -> CheckOutcome:
    return CheckOutcome("warn", reason, remedy)
