"""The identity of a server: its system, and the timeline, which each failover increases."""

from atlas.outside.postgres.errors import OldPrimary

SEPARATOR = ", timeline "
IDENTIFY = f"""
    SELECT system_identifier::text || '{SEPARATOR}'
            || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS identity,
        (pg_current_wal_flush_lsn() - '0/0')::bigint AS position
    FROM pg_control_system()
"""


def require_successor(before: str, now: str) -> None:
    """Raise OldPrimary if this identity has an earlier timeline of the same database system.

    After a failover, an old primary that starts again takes what its successor never gets.
    """
    system, _, seen = before.partition(SEPARATOR)
    other, _, timeline = now.partition(SEPARATOR)
    if system == other and timeline < seen:  # both have eight digits
        raise OldPrimary(
            f"An old primary of the journal's database answered: it has timeline {timeline}, after "
            f"a failover to {seen}. Stop it; or, if a backup was restored, restart this replica."
        )
