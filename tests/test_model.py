"""Model test: an accepted export is committed exactly once, whatever happens in any order.

Hypothesis plays the phones, Foundry, other writers to the branch, and process crashes, against the
real journal and the real uploader, in virtual time (Foundry's clock). A failing sequence is printed
and written to tests/lives, and becomes a regression test.
"""

import asyncio
import hashlib
import os
import random
import shutil
import zlib
from collections import Counter
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from atlas.actors.upload import (
    NDJSON,
    BranchMaintenance,
    FilePolicy,
    Format,
    Publisher,
    Timing,
    Uploader,
    UploadPolicy,
)
from atlas.actors.upload.effects import Rest, Woken
from atlas.computing import WorkerExecutor
from atlas.core import identifiers
from atlas.core.errors import (
    BranchBusy,
    CommitRefused,
    FileRefused,
    FoundryError,
    PathTaken,
    Unavailable,
)
from atlas.core.events import UnprotectedKeyFile
from atlas.core.messages import ExportMetadata, FlattenedExport, GroupLimits, User
from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.journal.compression import decompress_into
from atlas.outside.sqlite.journal import open_journal
from atlas.runtime import CompletionRegistry, RestartBudget, Wakeup
from tests.support.exports import NOON, SHELF, packed, rows_of
from tests.support.fakes import MemoryDataset

pytestmark = pytest.mark.slow

EXAMPLES, STEPS = (1_000, 200) if os.environ.get("TESTS_IN_FULL") else (100, 40)
ADA = User("ada")
TRIES_MAX = 5
LATE_SECONDS = 30.0  # by then Foundry has opened all delayed transactions
ALL = 2**31

ALWAYS = """
    begin begin put put commit commit branch_snapshot claim record_open record_file read conclude
""".split()
IN_TROUBLE = "find_orphan transaction_status files_of abort file_at content files_under".split()
IN_TROUBLE_KEPT = "in_hand backlog clear_intents record_intent uncommitted mark_found".split()
OF_FOUNDRY = {"branch_snapshot", "begin", "put", "commit", *IN_TROUBLE}
REFUSALS = {
    "before begin": BranchBusy(),
    "before put": FileRefused(),
    "before commit": CommitRefused(),
    "after commit": CommitRefused(),
}
LOST = ["no answer", "killed", "crashed"]
OTHERS = [
    "another_comes",
    "one_is_sent_again",
    "our_begin_comes_late",
    "an_operator_tries_again",
    "somebody_begins",
    "somebody_ends_it",
    "somebody_takes_a_path",
    "foundry_refuses_rows",
    "foundry_has_few_calls_left",
    "the_disk_is_copied",
]
PICKS = st.integers(0, 11)
MISHAPS = st.tuples(
    st.sampled_from(["before", "after"]),
    st.sampled_from([*ALWAYS, *ALWAYS, *IN_TROUBLE, *IN_TROUBLE_KEPT]),
    st.sampled_from([*LOST, *LOST, "no answer", "refused", "refused", *OTHERS]),
    PICKS,
)


def mixed(ndjson):
    """Encode rows in another order and with varying bytes, as a format other than NDJSON."""
    lines = sorted(bytes(ndjson).splitlines(keepends=True))
    return zlib.compress(b"".join(lines), level=1 + len(lines) % 9)


OTHER = Format("parquet", mixed, zlib.decompress)
FORMATS = {each.name: each for each in (NDJSON, OTHER)}
SHAPES = st.tuples(
    st.sampled_from(["auto", "auto", "per-export", "per-group"]),
    st.sampled_from(["ndjson", "ndjson", "parquet"]),
)
CASES = Path(__file__).parent / "lives"  # those that failed once


def read_rows(path, content):
    if path == identifiers.PROBE:
        return []
    return FORMATS[identifiers.detect_format(path)].read(bytes(content)).splitlines()


def lines_in(path, content):
    return frozenset(read_rows(path, content))


class Crashed(Exception):
    """An unforeseen bug."""


class Killed(BaseException):
    """The process was killed."""


@dataclass
class Foundry(MemoryDataset):
    """A dataset that records its rejections and since when a lost begin may still take effect.

    `poison` holds rows that it rejects, in whichever file they are.
    """

    poison: frozenset[bytes] = frozenset()
    refused: set[frozenset[bytes]] = field(default_factory=set)
    late_since: float | None = None
    kind_begun: str = "APPEND"
    head_after_abort: str = "previous"
    path_taken: str = "commit"

    def head(self) -> str:
        last = next(reversed(self.transactions), "")
        if self.head_after_abort != "previous" and last and self.state(last) == "ABORTED":
            return last if self.head_after_abort == "aborted" else ""
        return super().head()

    async def begin(self, kind: str = "APPEND") -> str:
        self.kind_begun = kind
        transaction = await super().begin(kind)
        self.late_since = None
        return transaction

    async def put(self, transaction: str, path: str, content: bytes) -> bool:
        lines = lines_in(path, content)
        if lines & self.poison:
            self.refuses.add(path)
        try:
            if self.path_taken == "upload" and path in self.files():
                raise PathTaken
            return await super().put(transaction, path, content)
        except FileRefused:
            self.refused.add(lines)
            raise
        finally:
            self.refuses.discard(path)

    def uuids(self) -> list[str]:
        rows = [row for file in self.files().items() for row in read_rows(*file)]
        return sorted(msgspec.json.decode(row)["uuid"] for row in rows)

    def elapsed(self) -> float:
        return self.now.timestamp()

    def has_committed(self, ndjson: bytes) -> bool:
        return any(
            lines_in(*file) >= frozenset(ndjson.splitlines())
            for each in self.transactions.values()
            if each.is_ours and each.state == "COMMITTED"
            for file in each.files.items()
        )


def recorded(step):
    """Record the arguments of a step, so that the same history can be replayed.

    A step inside another step is not recorded.
    """

    @wraps(step)
    def kept(self, **given):
        if self.is_in_step:
            return step(self, **given)
        self.story.append((step.__name__, given))
        self.is_in_step = True
        try:
            return step(self, **given)
        finally:
            self.is_in_step = False

    return kept


class Mortal:
    """The journal as the uploader uses it, with a possible crash before and after each call."""

    def __init__(self, outbox, foundry):
        self.outbox, self.foundry = outbox, foundry

    def __getattr__(self, name):
        async def call(*given, **named):
            async with self.foundry.call(name):
                return await getattr(self.outbox, name)(*given, **named)

        return call


class Lives(RuleBasedStateMachine):
    """A journal through a series of runs, and the branch that it is uploaded to."""

    folder: Path
    last: ClassVar[list] = []  # the history of the last run: the shortest failing one, if any fails

    def __init__(self):
        super().__init__()
        self.story, self.is_in_step = [], False
        type(self).last = self.story

    @initialize(
        is_sole_writer=st.booleans(),
        shapes=st.lists(SHAPES, min_size=1, max_size=3),
        head_after_abort=st.sampled_from(["previous", "none", "aborted"]),
        path_taken=st.sampled_from(["commit", "upload"]),
        open_listing=st.sampled_from(["empty", "listed", "not_found"]),
    )
    @recorded
    def begins(self, is_sole_writer, shapes, head_after_abort, path_taken, open_listing):
        """The layout of files is chosen again for each run."""
        readable = {"ndjson": NDJSON, "parquet": OTHER}
        self.shapes = [
            FilePolicy(decompress_into, layout, FORMATS[format], readable=readable)
            for layout, format in shapes
        ]
        self.pace = UploadPolicy(
            group=GroupLimits(exports_max=3),
            uploads_at_once=2,
            tries_max=TRIES_MAX,
            is_sole_writer=is_sole_writer,
        )
        self.foundry, self.events = Foundry(), []
        self.foundry.head_after_abort, self.foundry.path_taken = head_after_abort, path_taken
        self.foundry.open_listing = open_listing
        self.exports, self.troubles, self.troubles_before = {}, 0, {}
        self.accepted, self.exports_in_copy, self.is_path_taken = 0, None, False
        self.end = ExitStack()
        self.runner = self.end.enter_context(asyncio.Runner())
        self.home = Path(self.end.enter_context(TemporaryDirectory(dir=self.folder)))
        self.life, self.lives = self.end.enter_context(ExitStack()), 0
        self.opens()

    def opens(self):
        found = open_journal(
            self.home / str(self.lives) / "journal", CapacityLimits(free_bytes=0), retention=SHELF
        )
        self.journal = self.life.enter_context(found)
        assert {type(news) for news in self.journal.events} == {UnprotectedKeyFile}
        self.restarts()

    def restarts(self):
        outbox = Mortal(self.journal.outbox, self.foundry)
        chance = Timing(self.foundry.elapsed, random.Random(1).random)
        completions, watch = CompletionRegistry(), self.events.append
        publisher = Publisher(completions, lambda: self.foundry.now, watch)
        self.uploader = Uploader(
            *(
                self.foundry,
                outbox,
                publisher,
                self.pace,
                self.shape,
                WorkerExecutor(),
                chance,
                watch,
            )
        )

    @property
    def shape(self):
        return self.shapes[self.lives % len(self.shapes)]

    @rule()
    @recorded
    def dies(self):
        """Nothing is closed: the next run finds the files as they are at this moment."""
        self.troubles += 1
        self.runner.run(self.waiting())  # until the journal has written it
        shutil.copytree(self.home / str(self.lives), self.home / str(self.lives + 1))
        self.life.close()
        self.lives += 1
        self.opens()

    @precondition(lambda self: self.exports_in_copy is not None)
    @rule()
    @recorded
    def is_put_back(self):
        """Restore a copy: later exports are uploaded or lost. A person ends open transactions."""
        self.troubles += 1
        self.foundry.late_since = None
        for rid in self.foundry.open_now():
            self.foundry.transactions[rid].state = "ABORTED"
        self.life.close()
        self.lives += 1
        shutil.copytree(self.home / "copy", self.home / str(self.lives))
        self.exports = dict(self.exports_in_copy)
        self.opens()

    @rule(mishaps=st.lists(MISHAPS, min_size=1, max_size=3))
    @recorded
    def fails(self, mishaps):
        """Fail in this step of the uploader or in one of the next."""
        self.befall(mishaps)
        self.works()

    def befall(self, mishaps):
        for side, call, what, pick in mishaps:
            moment = f"{side} {call}"
            self.foundry.mishaps[moment] = partial(self.goes_wrong, what, moment, pick)

    @rule()
    @recorded
    def works(self):
        try:
            self.runner.run(self.takes_turns())
        except* Killed:
            self.dies()
        except* Crashed:
            self.restarts()

    async def takes_turns(self):
        """Run to the end of a group or to a pause. Pauses pass at once."""
        for _ in range(4):
            await self.uploader.run_group(RestartBudget())
            effect = self.uploader.step.effect
            if isinstance(effect, Rest):
                self.foundry.now += timedelta(seconds=effect.seconds or 0.0)
                self.uploader.apply_result(self.uploader.step, Woken())

    @rule(is_probe=st.booleans(), mishaps=st.lists(MISHAPS, max_size=2))
    @recorded
    def runs_an_errand(self, is_probe, mishaps):
        """Remove a file that does not exist, so that no row moves."""
        self.befall(mishaps)
        errands = BranchMaintenance(self.uploader, Wakeup(), nullcontext)
        try:
            self.runner.run(errands.probe() if is_probe else errands.remove(["no/such/file"]))
        except* Killed:
            self.dies()
        except* Crashed:
            self.restarts()
        except* Unavailable:
            pass

    @rule(picks=st.lists(PICKS, min_size=1, max_size=3))
    @recorded
    def accepts(self, picks):
        for pick in picks:
            self.runner.run(self.another_comes(pick))

    @rule(what=st.sampled_from([*OTHERS, "time_passes"]), pick=PICKS)
    @recorded
    def meanwhile(self, what, pick):
        self.runner.run(self.goes_wrong(what, "now", pick))

    async def goes_wrong(self, what, moment, pick):
        self.troubles += 1
        is_foundry = moment.split()[-1] in OF_FOUNDRY
        if what in LOST and moment == "before begin":
            self.foundry.late_since = self.foundry.elapsed()
        if what in OTHERS or what == "time_passes":
            await getattr(self, what)(pick)
        elif what == "killed":
            raise Killed
        elif what == "crashed":
            raise Crashed
        elif what == "refused" and is_foundry:
            raise REFUSALS.get(moment, FoundryError("Not now.", 7.0))
        else:
            raise FoundryError("No answer.") if is_foundry else Unavailable

    async def another_comes(self, pick):
        number, count = self.accepted, 1 + pick % 3
        self.accepted += 1
        at = NOON + timedelta(seconds=self.lives)
        when = identifiers.format_timestamp(at).encode()
        line = b'{"uuid":"a%d-%d","ingested_at":"%b"}\n'
        ndjson = b"".join(line % (number, row, when) for row in range(count))
        id = hashlib.sha256(ndjson).hexdigest()
        self.exports[id] = FlattenedExport(
            id, ExportMetadata(ADA, "", "", ""), at, packed(ndjson, count)
        )
        self.troubles_before[id] = self.troubles
        assert not (await self.journal.intake.append(self.exports[id])).replayed

    async def one_is_sent_again(self, pick):
        for export in list(self.exports.values())[pick : pick + 1]:
            assert (await self.journal.intake.append(export)).replayed

    async def time_passes(self, pick):
        self.foundry.now += timedelta(seconds=[1, 4, 6, 70, 3600][pick % 5])

    async def our_begin_comes_late(self, pick):
        since, self.foundry.late_since = self.foundry.late_since, None
        is_in_time = since is not None and self.foundry.elapsed() <= since + LATE_SECONDS
        if is_in_time and not self.foundry.open_now():
            self.foundry.opened(kind=self.foundry.kind_begun)

    async def an_operator_tries_again(self, pick):
        """Foundry may accept the export by now, or still reject it."""
        self.foundry.poison = self.foundry.poison if pick % 3 else frozenset()
        await self.journal.dead_letters.requeue(None)

    async def somebody_begins(self, pick):
        """If Atlas is the only writer, open only what cannot be mistaken for its own."""
        if self.foundry.open_now():
            return
        is_empty = pick % 2 and not self.pace.is_sole_writer
        files = {} if is_empty else {f"theirs-{len(self.foundry.transactions)}": b""}
        can_be_told = self.foundry.open_listing == "listed" or not self.pace.is_sole_writer
        kind = "APPEND" if pick % 3 and can_be_told else "UPDATE"
        self.foundry.opened(is_ours=False, kind=kind, **files)

    async def somebody_ends_it(self, pick):
        for rid in self.foundry.open_now():
            self.foundry.transactions[rid].state = "COMMITTED" if pick % 3 else "ABORTED"

    async def somebody_takes_a_path(self, pick):
        """Put our bytes, other bytes, or as many other bytes at a path.

        Our own only if we are sure to use that path too; otherwise the rows would be there twice.
        """
        paths = await self.free_paths()
        if not paths or self.foundry.open_now() or self.exports_in_copy is not None:
            return
        self.is_path_taken = True
        path, ours = paths[pick % len(paths)]
        kinds = [b'{"uuid":"theirs"}\n', ours.replace(b'"a', b'"b')]
        if all(each.layout == "per-export" and each.format is NDJSON for each in self.shapes):
            kinds.append(ours)
        theirs = kinds[pick % len(kinds)]
        if self.shape.layout != "per-export" and pick % 2:
            path = next(identifiers.group_paths(path, self.shape.format.name))
            theirs = self.shape.format.write(theirs)
        if path in self.foundry.files():
            return
        rid = self.foundry.opened(is_ours=False, **{path: theirs})
        self.foundry.transactions[rid].state = "COMMITTED"

    async def the_disk_is_copied(self, pick):
        """Copy the disk, as a nightly backup does.

        Skipped once another writer has taken one of our paths: Atlas would not look for the rows
        that it put elsewhere.
        """
        if self.is_path_taken:
            return
        await self.waiting()  # until the journal has written it
        shutil.rmtree(self.home / "copy", ignore_errors=True)
        shutil.copytree(self.home / str(self.lives), self.home / "copy")
        self.exports_in_copy = dict(self.exports)

    async def foundry_refuses_rows(self, pick):
        some = (await self.free_paths())[: pick % 3]
        self.foundry.poison |= {line for _, ndjson in some for line in ndjson.splitlines()}

    async def foundry_has_few_calls_left(self, pick):
        self.foundry.calls = 9_000 if pick % 2 else 0

    async def free_paths(self):
        """Yield the unused paths of our files, with the content meant for each."""
        taken = self.foundry.files()
        return [
            (each.path, rows_of(self.exports[each.id]))
            for each in await self.receipts()
            if each.status == "accepted" and each.path not in taken
        ]

    async def waiting(self):
        return (await self.journal.outbox.read_backlog(GroupLimits())).waiting

    async def receipts(self):
        return (await self.journal.receipts.list_page(ADA, None, ALL, None)).receipts

    @invariant()
    def it_holds(self):
        self.runner.run(self.ledger_balances())
        stands = Counter(uuid for uuid in self.foundry.uuids() if uuid.startswith("a"))
        assert max(stands.values(), default=1) == 1
        assert self.foundry.complaints == []
        for receipt in self.runner.run(self.receipts()):
            lines = frozenset(rows_of(self.exports[receipt.id]).splitlines())
            if receipt.status == "committed":
                found = self.foundry.transactions[receipt.transaction]
                assert found.state == "COMMITTED"
                assert lines_in(receipt.path, found.files[receipt.path]) >= lines
            elif receipt.status == "set_aside" and lines not in self.foundry.refused:
                assert self.troubles - self.troubles_before[receipt.id] >= TRIES_MAX

    async def ledger_balances(self):
        listing = await self.journal.ledger.list_entries(None, ALL, None)
        assert {each.receipt.id for each in listing.entries} == self.exports.keys()
        statuses = Counter(each.receipt.status for each in listing.entries)
        assert +Counter(listing.totals) == statuses
        aside = [each for each in listing.entries if each.receipt.status == "set_aside"]
        assert all(each.tries >= TRIES_MAX for each in aside)

    def teardown(self):
        self.is_in_step = True
        if hasattr(self, "end"):
            with self.end:
                self.ends_well()

    def ends_well(self):
        """Stop all trouble. A person ends the empty transactions that Atlas cannot attribute."""
        self.foundry.mishaps.clear()
        for each in self.foundry.transactions.values():
            is_known = each.is_ours and (self.pace.is_sole_writer or each.files)
            each.state = "ABORTED" if each.state == "OPEN" and not is_known else each.state
        steps = 10 + 2 * TRIES_MAX * len(self.exports)
        while self.runner.run(self.waiting()):
            assert (steps := steps - 1), "it comes to no end"
            self.works()
        self.works()
        self.it_holds()
        assert self.foundry.open_now() == []
        for receipt in self.runner.run(self.receipts()):
            assert receipt.status in {"committed", "set_aside"}
            is_there = self.foundry.has_committed(rows_of(self.exports[receipt.id]))
            assert receipt.status == "committed" or not is_there


def keep_for_ever(story):
    """Write a failing history to tests/lives, if possible; return instructions for a developer."""
    text = "".join(f"{msgspec.json.encode(step).decode()}\n" for step in story)
    file = CASES / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.ndjson"
    with suppress(OSError):
        file.write_text(text, encoding="utf-8")
    return f"Commit it as {file}, so that it is a test from now on:\n{text}"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.ndjson")), ids=lambda case: case.stem)
def test_a_life_that_is_kept_goes_well(case, tmp_path):
    """Replay the same steps in the same order, with the checks after each."""
    life = Lives()
    life.folder = tmp_path
    try:
        for line in case.read_bytes().splitlines():
            name, given = msgspec.json.decode(line)
            getattr(life, name)(**given)
            life.it_holds()
    finally:
        life.teardown()


def test_whatever_happens_an_accepted_export_is_committed_exactly_once(tmp_path):
    class Model(Lives):
        folder = tmp_path

    sizes = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Model, settings=sizes)
    except Exception as failed:
        failed.add_note(keep_for_ever(Model.last))
        raise
