"""The settings of a session, which do not depend on those of the role, database or server."""

from atlas.outside.postgres.database import Database

# Also if it is on: what a session has not set changes when the server's settings are reloaded.
# The isolation is for statements without a BEGIN.
MAKE_DURABLE = """
    SELECT set_config(name, CASE WHEN name <> 'synchronous_commit' THEN 'read committed'
        WHEN setting = 'remote_apply' THEN setting ELSE 'on' END, false)
    FROM pg_settings WHERE name IN ('synchronous_commit', 'default_transaction_isolation')"""
DURABLE = {"on", "remote_apply"}
# By the server, as asyncpg gives no access to its socket. A NAT or a balancer sees them as well.
KEEP_ALIVE = """
    SELECT set_config('tcp_keepalives_idle', '30', false),
        set_config('tcp_keepalives_interval', '10', false),
        set_config('tcp_keepalives_count', '3', false)"""


async def set_up_session(database: Database) -> None:
    """Make a session that no pooler shares durable, and keep its connection alive."""
    await database.fetch(MAKE_DURABLE)
    await database.fetch(KEEP_ALIVE)
