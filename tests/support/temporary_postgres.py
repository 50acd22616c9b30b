"""PostgreSQL servers for a short time, and their standbys."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from atlas.local.postgres import PostgresServer
from atlas.local.postgres.server import HOST, USER, find_free_port


@contextmanager
def run_temporary_server(
    programs: Path, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """Run a server whose folder is deleted at the end; standbys may have theirs beside it."""
    with TemporaryDirectory(prefix="atlas-postgres-") as folder:
        Path(folder).chmod(0o711)  # for nobody
        with PostgresServer(programs, Path(folder) / "data", settings=settings or {}) as server:
            yield server


def create_standby(
    server: PostgresServer,
    data: Path,
    name: str = "standby",
    settings: Mapping[str, str] | None = None,
) -> PostgresServer:
    """Copy the data to a new folder, for a server that follows `server` once it is started.

    Its `application_name` is the name. It keeps the password in its folder, for the connection.
    Raises PostgresFailed.
    """
    own_settings = {"wal_retrieve_retry_interval": "100ms", **(settings or {})}
    standby = replace(server, data=data, port=find_free_port(), settings=own_settings)
    standby.make_folder()
    source = f"host={HOST} port={server.port} user={USER} application_name={name}"
    how = ("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
    program, folder = server.programs / "pg_basebackup", f"--pgdata={data.absolute()}"
    environ = {**server.environ, "PGPASSWORD": server.password}
    server.account.run(program, *how, folder, f"--dbname={source}", environ=environ)
    standby.log.unlink()
    return standby


def promote(standby: PostgresServer) -> None:
    """Make a standby accept writes. Raises PostgresFailed."""
    program, folder = standby.programs / "pg_ctl", standby.data.absolute()
    standby.account.run(program, "promote", "--wait", "-D", folder, environ=standby.environ)
