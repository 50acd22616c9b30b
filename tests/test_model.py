"""Whatever happens, in whatever order, an accepted export is committed exactly once.

Hypothesis plays phones, Foundry, those who write to the same branch, and the end of the process,
against the real journal and the real uploader. Their time is virtual: it is Foundry's clock.
What fails is printed, and written to tests/lives, where it is a test from then on.
"""

import asyncio
import hashlib
import os
import random
import shutil
import zlib
from collections import Counter
from contextlib import ExitStack, suppress
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
from atlas.outside.sqlite.capacity import CapacityLimits
from atlas.outside.sqlite.compression import decompress_into
from atlas.outside.sqlite.journal import open_journal
from atlas.runtime import CompletionRegistry, RestartBudget, Wakeup
from tests.support.exports import NOON, SHELF, packed, rows_of
from tests.support.fakes import MemoryDataset

pytestmark = pytest.mark.slow

EXAMPLES, STEPS = (1_000, 200) if os.environ.get("TESTS_IN_FULL") else (100, 40)
ADA = User("ada")
TRIES_MAX = 5
LATE_SECONDS = 30.0  # by then Foundry has begun what it will begin
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
    """A format that is not what came: rows in another order, and never twice the same bytes."""
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
    """A bug that nobody foresaw."""


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Foundry(MemoryDataset):
    """It remembers what it has refused, and since when a begin of ours may come late.

    `poison` are rows that it does not take, in whatever file they come.
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
    """Keep what this step was called with, so that the same life can be lived again.

    A step that is a part of another is not kept.
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
    """The journal as the uploader sees it, with a moment before and after each call, too."""

    def __init__(self, outbox, foundry):
        self.outbox, self.foundry = outbox, foundry

    def __getattr__(self, name):
        async def call(*given, **named):
            async with self.foundry.call(name):
                return await getattr(self.outbox, name)(*given, **named)

        return call


class Lives(RuleBasedStateMachine):
    """A journal, life after life, and the branch that it is emptied into."""

    folder: Path
    last: ClassVar[list] = []  # the story of the last life: of the shortest that fails, if one does

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
        """What goes into which file is set anew in each life."""
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
        """It closes nothing: the next finds the files as they are at this moment."""
        self.troubles += 1
        self.runner.run(self.waiting())  # until it keeps what it was asked to
        shutil.copytree(self.home / str(self.lives), self.home / str(self.lives + 1))
        self.life.close()
        self.lives += 1
        self.opens()

    @precondition(lambda self: self.exports_in_copy is not None)
    @rule()
    @recorded
    def is_put_back(self):
        """What came since is in the dataset, or it is lost. What is open, a person has to end."""
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
        """In this step of the uploader, or in one of the next."""
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
        """As far as the end of a group, or to a pause. What it waits for passes at once."""
        for _ in range(4):
            await self.uploader.run_group(RestartBudget())
            effect = self.uploader.step.effect
            if isinstance(effect, Rest):
                self.foundry.now += timedelta(seconds=effect.seconds or 0.0)
                self.uploader.apply_result(self.uploader.step, Woken())

    @rule(is_probe=st.booleans(), mishaps=st.lists(MISHAPS, max_size=2))
    @recorded
    def runs_an_errand(self, is_probe, mishaps):
        """A removal of what is not there, so that every row stays where the others look for it."""
        self.befall(mishaps)
        errands = BranchMaintenance(self.uploader, Wakeup())
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
        """Foundry has learned to take it, or has not."""
        self.foundry.poison = self.foundry.poison if pick % 3 else frozenset()
        await self.journal.dead_letters.requeue(None)

    async def somebody_begins(self, pick):
        """Where we are told that nobody else writes, only what nobody can take for ours."""
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
        """With our bytes, with others, with as many others.

        With ours only where we are sure to put them at that path, too, or they are there twice.
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
        """As platforms do each night. Where ours went because somebody had taken their path,
        nobody would look.
        """
        if self.is_path_taken:
            return
        await self.waiting()  # until it keeps what it was asked to
        shutil.rmtree(self.home / "copy", ignore_errors=True)
        shutil.copytree(self.home / str(self.lives), self.home / "copy")
        self.exports_in_copy = dict(self.exports)

    async def foundry_refuses_rows(self, pick):
        some = (await self.free_paths())[: pick % 3]
        self.foundry.poison |= {line for _, ndjson in some for line in ndjson.splitlines()}

    async def foundry_has_few_calls_left(self, pick):
        self.foundry.calls = 9_000 if pick % 2 else 0

    async def free_paths(self):
        """Those of ours at which nothing stands, and what is to stand there."""
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
        """Nothing goes wrong any more. Of what is empty somebody else knows whose it is."""
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
    """Write a life that has failed to tests/lives, if that can be; return what to do with it."""
    text = "".join(f"{msgspec.json.encode(step).decode()}\n" for step in story)
    file = CASES / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.ndjson"
    with suppress(OSError):
        file.write_text(text, encoding="utf-8")
    return f"Commit it as {file}, so that it is a test from now on:\n{text}"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.ndjson")), ids=lambda case: case.stem)
def test_a_life_that_is_kept_goes_well(case, tmp_path):
    """The same steps in the same order, and what is asked of them after each."""
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
