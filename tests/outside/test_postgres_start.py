"""A journal in PostgreSQL that cannot be used stops the start, in one line that says why."""

import base64
import secrets
import shlex
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import anyio
import msgspec
import pytest

from atlas.core.errors import JournalAway
from atlas.local.postgres.server import find_free_port
from atlas.outside.postgres import address
from tests.support.postgres import run_sql
from tests.support.replicas import COMMITTED, accept, begin, commit, conclude
from tests.support.temporary_postgres import create_standby, run_temporary_server

KEY = base64.b64encode(bytes(32)).decode()
OTHER_KEY = base64.b64encode(b"k" * 32).decode()
SYSTEMS = {
    "AUTH0_DOMAIN": "atlas.test",
    "FOUNDRY_HOST": "foundry.test",
    "FOUNDRY_CLIENT_ID": "client",
    "FOUNDRY_CLIENT_SECRET": "a-secret",
    "ATLAS_JOURNAL_KEY": KEY,
}
RUN_MAIN = "import sys; from atlas.cli import main; sys.argv = ['atlas', 'serve']; main()"


@pytest.fixture
def serve(atlas):
    """Run `atlas serve` in a thread, and return how it ended."""

    async def run(url, **environ):
        run = lambda: atlas("serve", **SYSTEMS | environ, ATLAS_JOURNAL=url)  # noqa: E731
        return await anyio.to_thread.run_sync(run)

    return run


@pytest.fixture
def impatient(monkeypatch):
    """A start that waits for no database."""
    monkeypatch.setattr("atlas.outside.postgres.preparation.WAIT_SECONDS", 0.0)


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///",
        "postgresql://h0st",
        "postgresql://h0st/",
        "postgresql://ada:s3cret@h0st",
        "postgresql://ada:s3cret@/db",
        "postgresql://ada:s3cret@h0st/db?schema=",
        "postgresql://ada:s3cret@h0st/db?schema=Upper",
        "postgresql://ada:s3cret@h0st/db?schema=pg_atlas",
        "postgresql://ada:s3cret@h0st/db?schema=a;DROP",
        "postgresql://ada:s3cret@h0st/db?schema=" + "a" * 41,
        "postgresql://ada:s3cret@h0st/db?nonsense",
        "postgresql://ada:s3cret@[::1/db",
        "postgresql://ada:s3cret/with/slashes@h0st/db",
        "postgresql://ada:s3cret@h0st:port/db",
        "postgresql://ada:s3cret@h0st:99999/db",
        "postgresql://ada:s3cret@127.0.0.1/db?sslmode=s3cret",
        "postgresql://ada:s3cret@127.0.0.1/db?sslmode=verify-full&sslrootcert=/no/s3cret",
        "postgresql://ada:s3cret@h0st/db#fragment",
        "postgresql://ada:s3cret?@h0st/db",
        "postgresql://ada:s3cret#@h0st/db",
        "postgresql://ada:s3cret%zz@h0st/",
        "postgresql+asyncpg://ada:s3cret@h0st/db",
        "PostgreSQL://ada:s3cret@h0st/",
        "postgres:ada:s3cret",
        "mysql://ada:s3cret@h0st/db",
        "ada:s3cret@h0st/db",
    ],
)
async def test_a_url_that_is_none_is_not_quoted(serve, impatient, url):
    said = (await serve(url)).in_one_line(78)

    assert not [each for each in ("ada", "s3cret", "h0st", "no/") if each in said]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:pw@db/atlas", "postgresql://db/atlas?schema=atlas"),
        ("postgres://ada:pw@db:1,db2:2/a?schema=s", "postgresql://db:1,db2:2/a?schema=s"),
        ("postgresql://ada:p%40w@[::1]:5/a?sslmode=require", "postgresql://[::1]:5/a?schema=atlas"),
        ("postgresql://ada:pw@/a?host=db", "postgresql://db/a?schema=atlas"),
        ("postgresql:///a?host=db&user=ada&password=pw", "postgresql://db/a?schema=atlas"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url, shown):
    parsed = address.parse_address(url)

    assert parsed.shown == shown
    assert not any("schema" in each for each in parsed.dsns)


# servers


async def test_a_server_that_does_not_answer_is_waited_for_and_then_named(
    serve, replicas, monkeypatch
):
    monkeypatch.setattr("atlas.outside.postgres.preparation.WAIT_SECONDS", 0.4)
    monkeypatch.setattr("atlas.outside.postgres.preparation.QUIET_SECONDS", 0.1)
    port = find_free_port()
    ended = await serve(f"postgresql://ada:s3cret@127.0.0.1:{port}/db")
    shown = f"postgresql://127.0.0.1:{port}/db?schema=atlas"

    assert (ended.code, ended.out) == (1, "")
    lines = [msgspec.json.decode(line) for line in ended.err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("warning", f"Waiting for the journal at {shown}: the server does not answer."),
        ("error", f"The journal cannot be opened at {shown}: the server does not answer."),
    ]


async def test_a_host_that_nobody_knows_is_named(serve, impatient):
    said = (await serve("postgresql://ada:s3cret@nobody.invalid/db")).in_one_line(1)

    assert "postgresql://nobody.invalid/db" in said
    assert "host is not known" in said


async def test_a_database_that_is_away_for_a_moment_is_only_a_delay(postgres_servers, tmp_path):
    programs = postgres_servers.find_any_programs()
    with run_temporary_server(programs) as server:
        server.stop()
        starting = threading.Timer(1.0, server.start)
        starting.start()
        from tests.support.postgres import open_postgres_journal  # noqa: PLC0415

        async with open_postgres_journal(server.url) as journal:
            (receipt,) = await accept(journal, "id-1")
        starting.join()

    assert not receipt.replayed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda url, password: url.replace(password, "wr0ng"), "user or the password is wrong"),
        (lambda url, _: url.replace("atlas:", "eve:"), "user or the password is wrong"),
        (lambda url, _: url.replace("/postgres?", "/n0where?"), "database does not exist"),
        (lambda url, _: url + "&wr0ng=eve", "a parameter of the URL is not valid"),
        (lambda url, _: url + "&sslmode=require", "does not offer TLS"),
        (lambda url, _: url + "&sslmode=verify-full", "does not offer TLS"),
        (
            lambda url, _: url + "&sslmode=verify-full&sslrootcert=/etc/hostname",
            "TLS failed",
        ),
    ],
    ids=[
        "password",
        "user",
        "database",
        "parameter",
        "no TLS",
        "no TLS to verify",
        "no certificate",
    ],
)
async def test_a_url_that_the_server_refuses_is_explained(serve, replicas, change, named):
    password = quote(replicas.server.password, safe="")
    said = (await serve(change(replicas.url, password))).in_one_line(78)

    assert named in said
    assert not [each for each in (password, "wr0ng", "eve") if each in said]


async def test_a_server_that_is_too_old_is_refused(serve, replicas, monkeypatch):
    monkeypatch.setattr("atlas.outside.postgres.guards.SERVER_MIN", 99)

    assert "Atlas needs 99 or newer" in (await serve(replicas.url)).in_one_line(78)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_may_lose_commits_is_refused(serve, replicas, setting):
    async with changed_server(replicas, setting, "off"):
        said = (await serve(replicas.url)).in_one_line(78)

    assert f"{setting} is off" in said


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_character_is_refused(serve, replicas, encoding):
    name = f"narrow_{secrets.token_hex(6)}"
    await replicas.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
    try:
        said = (await serve(replicas.url.replace("/postgres?", f"/{name}?"))).in_one_line(78)
    finally:
        await replicas.sql(f"DROP DATABASE {name}")

    assert f"the encoding of the database is {encoding}" in said
    assert "ENCODING 'UTF8'" in said


@asynccontextmanager
async def changed_server(replicas, setting, value):
    await replicas.sql(f"ALTER SYSTEM SET {setting} = {value}")
    await replicas.sql("SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")
    try:
        yield
    finally:
        await replicas.sql(f"ALTER SYSTEM RESET {setting}")
        await replicas.sql("SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")


async def test_a_read_only_standby_is_refused(serve, impatient, postgres_servers, tmp_path):
    with run_temporary_server(postgres_servers.find_any_programs()) as server:
        standby = create_standby(server, server.data.parent / "standby")
        with standby:
            said = (await serve(standby.url)).in_one_line(78)

    assert "read-only standby" in said


# roles


@asynccontextmanager
async def open_role(server, *grants):
    """Yield the name and password of a role with these rights. `{}` is its name."""
    name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(8)
    await run_sql(server, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        await run_sql(server, *(each.format(name) for each in grants))
        yield name, password
    finally:
        await run_sql(server, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def as_role(replicas, name, password):
    return replicas.url.replace("atlas:", f"{name}:").replace(
        quote(replicas.server.password, safe=""), password
    )


async def test_a_role_without_rights_is_told_what_to_grant(serve, replicas):
    async with open_role(replicas.server) as (name, password):
        said = (await serve(as_role(replicas, name, password))).in_one_line(78)

    assert "GRANT CREATE ON DATABASE" in said
    assert name not in said


async def test_a_role_without_rights_on_anothers_tables_is_told_so(serve, replicas):
    async with replicas.open():
        pass
    grant = f"GRANT USAGE, CREATE ON SCHEMA {replicas.schema} TO {{}}"
    async with open_role(replicas.server, grant) as (name, password):
        said = (await serve(as_role(replicas, name, password))).in_one_line(78)

    assert "its user lacks rights" in said


async def test_a_role_that_owns_nothing_but_the_schema_suffices(replicas):
    create = f"CREATE SCHEMA {replicas.schema} AUTHORIZATION {{}}"
    async with open_role(replicas.server, create) as role:
        replicas.url = as_role(replicas, *role)
        async with replicas.open() as journal:
            await accept(journal, "id-1", key="k")
            assert await journal.leadership.acquire() == 1
            await begin(journal)
            await conclude(journal, {}, COMMITTED)
            await journal.personal_data.rewrite()
            assert (await journal.inspector.inspect()).bytes > 0


LESS = "ALTER ROLE {} SET synchronous_commit = off"


async def test_a_role_that_commits_too_early_is_corrected_for_the_session(replicas):
    grant = "GRANT CREATE ON DATABASE postgres TO {}"
    async with open_role(replicas.server, grant, LESS) as role:
        replicas.url = as_role(replicas, *role)
        async with replicas.open() as journal:
            for port in (journal.intake, journal.outbox, journal.receipts, journal.leadership):
                assert await port._session.run(read_durability) == "on"


async def test_a_session_does_not_follow_a_server_that_begins_to_commit_too_early(replicas):
    async with replicas.open() as journal:
        session = journal.intake._session
        assert await session.run(read_durability) == "on"
        pid = await session.run(lambda database: database.fetch_value("SELECT pg_backend_pid()"))
        try:
            await replicas.sql("ALTER SYSTEM SET synchronous_commit = off")
            await replicas.sql("SELECT pg_reload_conf()")
            with anyio.fail_after(10):
                while await replicas.sql("SHOW synchronous_commit") != "off":
                    await anyio.sleep(0.02)
            await anyio.sleep(0.2)  # for the session's own process
            assert await session.run(read_durability) == "on"
            assert pid == await session.run(
                lambda database: database.fetch_value("SELECT pg_backend_pid()")
            )
        finally:
            await replicas.sql("ALTER SYSTEM RESET synchronous_commit")
            await replicas.sql("SELECT pg_reload_conf()")


async def read_durability(database):
    return await database.fetch_value("SELECT current_setting('synchronous_commit')")


async def test_a_role_that_commits_too_early_is_refused_behind_a_pooler(serve, replicas, tmp_path):
    (tmp_path / "a.toml").write_text("[journal]\npooled = true\n")
    async with open_role(replicas.server, LESS) as role:
        ended = await serve(as_role(replicas, *role), ATLAS_CONFIG="a.toml")

    assert "ALTER ROLE ... SET synchronous_commit = on" in ended.in_one_line(78)


ISOLATED = "ALTER ROLE {} SET default_transaction_isolation = serializable"


async def test_a_role_of_another_isolation_is_corrected_for_the_session(replicas):
    grant = "GRANT CREATE ON DATABASE postgres TO {}"
    async with open_role(replicas.server, grant, ISOLATED) as role:
        replicas.url = as_role(replicas, *role)
        async with replicas.open() as journal:
            for port in (journal.intake, journal.outbox, journal.receipts, journal.leadership):
                assert await port._session.run(read_isolation) == "read committed"
                assert await port._session.transact(read_isolation) == "read committed"


async def test_a_transaction_has_its_isolation_whatever_the_session_has(replicas):
    async with replicas.open() as journal:
        session = journal.intake._session
        change = "SET default_transaction_isolation = serializable"
        await session.run(lambda database: database.execute(change))
        assert await session.run(read_isolation) == "serializable"
        assert await session.transact(read_isolation) == "read committed"


async def read_isolation(database):
    return await database.fetch_value("SELECT current_setting('transaction_isolation')")


async def test_a_role_of_another_isolation_is_refused_behind_a_pooler(serve, replicas, tmp_path):
    (tmp_path / "a.toml").write_text("[journal]\npooled = true\n")
    async with open_role(replicas.server, ISOLATED) as role:
        ended = await serve(as_role(replicas, *role), ATLAS_CONFIG="a.toml")

    said = ended.in_one_line(78)
    assert "default_transaction_isolation is serializable" in said
    assert "ALTER ROLE ... SET default_transaction_isolation = 'read committed'" in said


async def test_a_role_that_may_only_read_is_told_what_to_change(serve, replicas, impatient):
    read_only = "ALTER ROLE {} SET default_transaction_read_only = on"
    async with open_role(replicas.server, read_only) as role:
        said = (await serve(as_role(replicas, *role))).in_one_line(78)

    assert "default_transaction_read_only is on" in said


# schemas


async def test_a_replica_stores_nothing_in_a_journal_created_in_place_of_its_own(replicas):
    async with replicas.open() as old:
        await accept(old, "id-1")
        await replicas.sql(f"DROP SCHEMA {replicas.schema} CASCADE")
        with pytest.raises(JournalAway):
            await accept(old, "id-2")
        async with replicas.open() as new:
            with pytest.raises(JournalAway, match="restart this replica"):
                await accept(old, "id-2")
            with pytest.raises(JournalAway, match="restart this replica"):
                await old.leadership.acquire()
            assert await replicas.count("export") == 0
            await accept(new, "id-2")


async def test_a_replica_notices_a_journal_created_unseen_in_place_of_its_own(replicas):
    async with replicas.open() as old:
        await accept(old, "id-1")
        await replicas.sql(f"DROP SCHEMA {replicas.schema} CASCADE")
        async with replicas.open():
            with pytest.raises(JournalAway):
                await old.peers._session.run(old.peers._connector.identify)
            with pytest.raises(JournalAway, match="restart this replica"):
                await accept(old, "id-2")


async def test_a_schema_may_have_the_name_of_a_keyword(replicas):
    replicas.url = f"{replicas.url.partition('?')[0]}?schema=user"
    try:
        async with replicas.open() as journal:
            await accept(journal, "id-1", key="k")
            assert await journal.leadership.acquire() == 1
            assert await commit(journal)
            await journal.personal_data.rewrite()
    finally:
        await run_sql(replicas.server, 'DROP SCHEMA "user" CASCADE')


async def test_a_schema_of_another_program_is_left_alone(serve, replicas):
    await replicas.sql(
        f"CREATE SCHEMA {replicas.schema}", "CREATE TABLE @.version (number integer)"
    )
    assert "another program" in (await serve(replicas.url)).in_one_line(78)

    await replicas.sql("DROP TABLE @.version", "CREATE TABLE @.payload (number integer)")
    assert "another program" in (await serve(replicas.url)).in_one_line(78)
    assert await replicas.sql("SELECT to_regclass('@.export') IS NULL")  # all or nothing


async def test_a_journal_of_a_newer_version_is_left_alone(serve, replicas):
    async with replicas.open():
        await replicas.sql("UPDATE @.version SET present = 99")
    async with replicas.open():  # a newer one that still lets this one write
        await replicas.sql("UPDATE @.version SET writers = 99")
    said = (await serve(replicas.url)).in_one_line(78)

    assert "upgraded by a newer Atlas" in said
    assert replicas.server.password not in said


async def test_a_journal_of_another_dataset_is_left_alone(replicas):
    from atlas.core.errors import ConfigurationError  # noqa: PLC0415
    from atlas.outside.postgres.journal import JournalOptions, open_journal  # noqa: PLC0415

    def open_to(destination):
        parsed = address.parse_address(replicas.url)
        return open_journal(parsed, [bytes(32)], JournalOptions(), destination)

    async with open_to("ri.one, branch master"):
        pass
    async with open_to("ri.two, branch master") as journal:  # nothing is committed yet
        await accept(journal, "id-1")
        await journal.leadership.acquire()
        await begin(journal)
        await conclude(journal, {}, COMMITTED)
    with pytest.raises(ConfigurationError, match=r"committed exports to ri\.two"):
        async with open_to("ri.one, branch master"):
            pass
    async with open_to("ri.two, branch master"):
        pass


async def test_replicas_that_create_one_journal_at_once_create_it_once(replicas):
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(open_and_close, replicas)

    assert await replicas.count("lease") == await replicas.count("version") == 1
    assert await replicas.count("secret", "name LIKE 'root %'") == 1


async def open_and_close(replicas):
    async with replicas.open() as journal:
        await journal.ledger.check_ready()


# keys


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("", "ATLAS_JOURNAL_KEY is not set"),
        ("s3cret", "ATLAS_JOURNAL_KEY must be"),
        (OTHER_KEY, "encrypted with another key"),
        (f"{OTHER_KEY},{OTHER_KEY}", "encrypted with another key"),
    ],
    ids=["none", "no key", "another", "others"],
)
async def test_a_journal_opens_with_its_key_only(serve, replicas, key, named):
    async with replicas.open() as journal:
        await accept(journal, "id-1")
    before = await replicas.sql("SELECT jsonb_agg(secret ORDER BY name)::text FROM @.secret")
    said = (await serve(replicas.url, ATLAS_JOURNAL_KEY=key)).in_one_line(78)

    assert named in said
    assert not [each for each in ("s3cret", KEY, OTHER_KEY) if each in said]
    after = await replicas.sql("SELECT jsonb_agg(secret ORDER BY name)::text FROM @.secret")
    assert after == before


async def test_a_key_is_changed_by_two_rolling_deploys(replicas):
    old, new = bytes(32), b"n" * 32
    async with open_with(replicas, old) as first:
        await accept(first, "id-1")
        async with open_with(replicas, new, old) as second:  # the first deploy
            await accept(second, "id-2")
            async with open_with(replicas, old) as third:  # one of the old ones starts again
                assert len(await third.outbox.read(["id-1", "id-2"])) == 2
    async with open_with(replicas, new) as fourth:  # the second deploy
        assert len(await fourth.outbox.read(["id-1", "id-2"])) == 2
        assert fourth.log_key == first.log_key
    assert await replicas.count("secret", "name LIKE 'root %'") == 2


@asynccontextmanager
async def open_with(replicas, *keys):
    from atlas.outside.postgres.journal import JournalOptions, open_journal  # noqa: PLC0415

    parsed = address.parse_address(replicas.url)
    async with open_journal(parsed, keys, JournalOptions()) as journal:
        yield journal


# the driver


def run(code, **environ):
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", **environ},
    )


FORBID = "import sys; sys.modules['asyncpg'] = None; "


def test_without_the_driver_a_start_names_the_command_that_installs_it():
    ended = run(
        FORBID + RUN_MAIN, **SYSTEMS, ATLAS_JOURNAL="postgresql://ada:s3cret@127.0.0.1:1/db"
    )

    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr.count("\n") == 1
    pip = shlex.quote(str(Path(sys.executable).with_name("pip")))
    command = f"{pip} install --require-hashes -r config/requirements-postgres.txt"
    assert command in ended.stderr
    assert "s3cret" not in ended.stderr


IMPORT_ALL = "import atlas.cli, atlas.service, atlas.cli.serve, atlas.cli.diagnose"
OPEN_IN_MEMORY = """
import asyncio
from atlas.service.store import open_unlocked
from atlas.settings import JournalSettings, Settings

async def run():
    async with open_unlocked(Settings(journal=JournalSettings(url="memory:"))) as store:
        await store.ledger.check_ready()

asyncio.run(run())
"""
SHOW_HELP = """
import sys, atlas.cli
sys.argv = ["atlas", "--help"]
try:
    atlas.cli.main()
except SystemExit as ended:
    assert not ended.code
"""


@pytest.mark.parametrize("code", [IMPORT_ALL, OPEN_IN_MEMORY, SHOW_HELP])
def test_the_driver_is_not_imported_without_the_setting(code):
    ended = run(code + "\nimport sys; print('asyncpg' in sys.modules, file=sys.stderr)")

    assert (ended.returncode, ended.stderr) == (0, "False\n")
