"""Commands on a journal in PostgreSQL: from anywhere, beside running replicas and without any."""

import asyncio
import base64
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from atlas.core import identifiers
from atlas.core.commits import Verdict
from atlas.core.messages import ExportMetadata, RawExport
from atlas.local.foundry.state import DATASET
from atlas.outside.postgres.address import parse_address
from tests.chaos.service_process import ServiceProcess
from tests.chaos.trial_environment import HOST, SCALES, find_free_port, open_testbed
from tests.support.exports import ADA, NOON, export
from tests.support.filled_journals import commit
from tests.support.postgres import open_postgres_journal, run_sql
from tests.support.schemas import COMMAND, TEXT_KEY, environment

REFUSED = Verdict("refused", "Foundry refused it", is_certain=True)
ROWS = base64.b64encode(b'{"uuid":"a"}\n')
CRASHED = RawExport(ExportMetadata(ADA, "", "", "crashed"), ROWS)
CRASHED_ID = identifiers.derive_input_id(CRASHED)
ASIDE = [export(number).id for number in range(4)]


@dataclass
class Command:
    code: int
    out: str
    err: str


@dataclass
class Replicas:
    """Two replicas behind emulated systems; `first` is the only one that can be the leader yet."""

    testbed: object
    url: str
    second: ServiceProcess

    @property
    def first(self):
        return self.testbed.atlas

    async def start(self):
        await self.first.start()
        await self.second.start()

    async def run(self, *arguments):
        """Run a command with the settings of the replicas, but from elsewhere."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            "--config",
            str(self.first.file),
            env=environment(self.url),
            cwd=self.testbed.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        ended = Command(process.returncode, out.decode(), err.decode())
        assert urlsplit(self.url).password not in ended.out + ended.err
        return ended

    async def wait_for(self, text):
        """Wait until the list of exports shows this text."""
        give_up_at = asyncio.get_running_loop().time() + 15
        while text not in (listed := await self.run("exports", "list")).out:
            assert asyncio.get_running_loop().time() < give_up_at, listed


@asynccontextmanager
async def open_replicas(url):
    """Yield replicas that are not started. Their journal has exports that were set aside."""
    async with open_postgres_journal(url) as journal:
        await journal.leadership.acquire()
        for number in range(4):
            recent = replace(export(number), at=datetime.now(UTC))  # its receipt is kept
            await journal.intake.append(recent)
        await commit(journal, "ri.foundry.main.transaction.1", REFUSED, tries_max=1)
        await journal.dead_letters.store(CRASHED, CRASHED_ID, NOON)
        await journal.leadership.release()
    changes = {"journal": {"url": url, "keys": [TEXT_KEY]}}
    async with open_testbed(SCALES["ci"], "1", changes) as testbed:
        folder = testbed.folder / "second"
        folder.mkdir()
        settings = {name: dict(keys) for name, keys in testbed.atlas.settings.items()}
        settings["edge"]["port"] = find_free_port()
        settings["operator"]["listen"] = f"{HOST}:{find_free_port()}"
        second = ServiceProcess(folder, settings)
        try:
            yield Replicas(testbed, url, second)
        finally:
            if second.is_running:
                await second.kill()


async def test_set_aside_exports_are_replayed_and_discarded_beside_running_replicas(
    journal_url,
):
    async with open_replicas(journal_url) as replicas:
        await replicas.start()

        listed = await replicas.run("exports", "list")
        shown = await replicas.run("exports", "show", ASIDE[0][:12])
        again = await replicas.run("exports", "replay", ASIDE[0])
        await replicas.wait_for("1 committed, 4 set_aside")
        discarded = await replicas.run("exports", "discard", ASIDE[1], "--yes")
        unknown = await replicas.run("exports", "discard", "ffffffff", "--yes")
        checked = await replicas.run("journal", "check")
        refused = await replicas.run("journal", "move", "--to", "sqlite:///moved.db")

        assert (listed.code, "0 committed, 5 set_aside" in listed.out) == (0, True)
        assert msgspec.json.decode(shown.out)["receipt"]["id"] == ASIDE[0]
        assert again.out == "1 replayed, 0 failed again.\n"
        assert discarded.out == "1 discarded.\n"
        assert (unknown.code, unknown.err.count("\n")) == (1, 1)
        assert (checked.code, checked.err, checked.out[-5:]) == (0, "", "PASS\n")
        assert (refused.code, refused.err.count("\n")) == (75, 1)


async def test_what_crashed_a_stage_is_replayed_by_a_replica_that_is_named(journal_url):
    async with open_replicas(journal_url) as replicas:
        await replicas.start()
        listener = replicas.second.operator.removeprefix("http://")

        alone = await replicas.run("exports", "replay", "--all")
        nobody = await replicas.run("exports", "replay", "--all", "--operator", f"{HOST}:9")
        replayed = await replicas.run("exports", "replay", "--all", "--operator", listener)
        await replicas.wait_for("5 committed, 0 set_aside")

        assert (alone.code, alone.err.count("\n")) == (1, 1)
        assert "see --operator" in alone.err
        assert (nobody.code, nobody.err.count("\n")) == (1, 1)
        assert replayed.out == "5 replayed, 0 failed again.\n"


@pytest.mark.parametrize("is_serving", [True, False], ids=["replicas", "nobody"])
async def test_what_changes_the_dataset_takes_the_lease(journal_url, database_server, is_serving):
    """A probe and a removal by diagnose, and the erasure of a person."""
    async with open_replicas(journal_url) as replicas:
        testbed, emulator = replicas.testbed, replicas.testbed.emulators.foundry
        await replicas.first.start()
        sent = testbed.clients.next_export()
        await testbed.clients.deliver(sent)
        old = emulator.branches.begin(DATASET, "master", "APPEND", owner="local")
        emulator.branches.put(old, "healthkit/raw/old.json", b"{}")
        emulator.branches.commit(old)
        if not is_serving:
            await replicas.first.end()
        before = await read_epoch(database_server, journal_url)

        diagnosis = msgspec.json.decode((await replicas.run("diagnose", "--json")).out)
        removed = await replicas.run("diagnose", "--remove-old-json", "--yes")
        report = await replicas.run("person", "show", sent.sub)
        erased = await replicas.run("person", "erase", sent.sub, "--yes")
        empty = await replicas.run("person", "show", sent.sub)

        verdicts = {step["name"]: step for step in diagnosis["steps"]}
        assert verdicts["journal"]["verdict"] == "fail", "exports are set aside"
        assert "unknown" not in {step["verdict"] for step in diagnosis["steps"][5:]}, diagnosis
        assert removed.out.startswith("1 files removed, in ri.")
        assert "1 of their own" in report.out
        assert (erased.code, erased.err) == (0, "")
        assert "Removed    1 files" in erased.out
        assert "no data of this user" in empty.out
        assert await read_epoch(database_server, journal_url) >= before + 3
        assert testbed.emulators.list_open() == []
        assert emulator.log.violations == []


async def read_epoch(server, url):
    (epoch,) = await run_sql(server, f"SELECT epoch FROM {parse_address(url).schema}.lease")
    return epoch
