"""The settings of the server without which acknowledged exports could be lost."""

from dataclasses import dataclass

from atlas.core.errors import ConfigurationError
from atlas.outside.postgres.database import Database
from atlas.outside.postgres.session_settings import DURABLE

SERVER_MIN = 14
ISOLATION = "read committed"
PROCESS = "SELECT pg_backend_pid()"
READ = """
    SELECT current_setting('server_version_num')::int / 10000 AS version,
        current_setting('server_encoding') AS encoding,
        current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('default_transaction_isolation') AS isolation,
        current_setting('synchronous_standby_names') AS standbys,
        current_setting('data_checksums') AS checksums,
        least(
            current_setting('max_connections')::int
                - current_setting('superuser_reserved_connections')::int,
            nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1),
            nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1)
        ) AS connections_max,
        pg_is_in_recovery() AS is_standby,
        extract(epoch FROM clock_timestamp())::double precision AS now
"""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of the server that matter to the journal.

    `connections_max`: that our role may open in this database. `now`: its clock, in seconds.
    """

    version: int
    encoding: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    isolation: str
    standbys: str
    checksums: str
    connections_max: int
    is_standby: bool
    now: float

    def find_defect(self) -> str:
        """Return why the journal cannot be kept there; "" if it can."""
        if self.version < SERVER_MIN:
            return f"PostgreSQL {self.version} is too old: Atlas needs {SERVER_MIN} or newer."
        if self.is_standby:
            return "the server is a read-only standby: name the primary, or all hosts."
        if self.encoding != "UTF8":
            return (
                f"the encoding of the database is {self.encoding}, which lacks characters: "
                "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )
        for name in ("fsync", "full_page_writes"):
            if getattr(self, name) != "on":
                return f"{name} is off: a crash of the server would lose exports. Turn it on."
        if self.synchronous_commit not in DURABLE:
            return (
                f"synchronous_commit is {self.synchronous_commit}: a crash would lose exports. "
                "ALTER ROLE ... SET synchronous_commit = on"
            )
        if self.isolation != ISOLATION:
            return (
                f"default_transaction_isolation is {self.isolation}: exports would be refused. "
                f"ALTER ROLE ... SET default_transaction_isolation = '{ISOLATION}'"
            )
        return ""


async def read_settings(database: Database) -> ServerSettings:
    (row,) = await database.fetch(READ)
    return ServerSettings(**dict(row))


async def require_session(database: Database, shown: str) -> None:
    """Raise ConfigurationError if a pooler is in between, and may change the server process.

    A pooler makes up the number of the process. Prepared statements of two clients would meet in
    one process, under the same names.
    """
    if await database.fetch_value(PROCESS) != database.connection.get_server_pid():
        raise ConfigurationError(
            f"The journal {shown} is behind a connection pooler, such as PgBouncer. Connect to the "
            "server itself, or set pooled = true in [journal]."
        )


async def require_durability(database: Database, shown: str) -> None:
    """Raise ConfigurationError if the server could lose what it has committed."""
    defect = (await read_settings(database)).find_defect()
    if defect:
        raise ConfigurationError(f"The journal {shown} cannot be kept there: {defect}")
