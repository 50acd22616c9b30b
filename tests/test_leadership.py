"""Leadership: at most one replica uploads, and soon another does if that one is gone."""

import random
import re
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import anyio
import pytest

from atlas.core.errors import Deposed, Unavailable
from atlas.core.events import LeadershipLost, LeadershipTaken
from atlas.outside.sqlite.single_process import SoleLeader
from atlas.replicas import Leader
from atlas.replicas.leader import FAILING_SECONDS, HOLD_WAIT_SECONDS
from atlas.replicas.protocol import TRANSITIONS, advance, trusted_seconds
from atlas.replicas.states import (
    Acquired,
    Finished,
    Input,
    Lost,
    Occupied,
    Phase,
    Released,
    Renewed,
    Term,
    Unanswered,
)
from tests.support.leases import GROUP_SECONDS, LEASE_SECONDS, ReplicaLease, SharedLease
from tests.support.leases import TimedUploads as Uploads
from tests.support.virtual_time import run_virtually

README = Path(__file__).parent.parent / "atlas/replicas/README.md"
PHASES = sorted(get_args(Phase))
TRUSTED = 4.0  # seconds of a lease of five
INPUTS = (
    *(Acquired(7, 100.0), Occupied(), Renewed(103.0), Renewed(103.0, is_wanted=True), Lost()),
    *(Unanswered(102.0), Unanswered(103.9), Unanswered(104.0), Finished(), Released()),
)
RENEWED, WANTED, TRUSTED_STILL, TRUSTED_BARELY, DOUBTED = INPUTS[2], INPUTS[3], *INPUTS[5:8]
ALL_RENEWED, ALL_UNANSWERED = (RENEWED, WANTED), (TRUSTED_STILL, TRUSTED_BARELY, DOUBTED)

# The table: (phase, inputs): (next phase, command, seconds until the database is asked again)
CELLS = {
    ("following", INPUTS[0]): ("leading", "start", 1.0),
    ("following", INPUTS[1]): ("following", None, 0.5),
    **{("following", each): ("following", None, 0.25) for each in ALL_UNANSWERED},
    ("leading", RENEWED): ("leading", None, 1.0),
    ("leading", WANTED): ("finishing", "finish", 1.0),
    **{("finishing", each): ("finishing", None, 1.0) for each in ALL_RENEWED},
    **{(phase, TRUSTED_STILL): (phase, None, 0.25) for phase in ("leading", "finishing")},
    **{(phase, TRUSTED_BARELY): (phase, None, 0.1) for phase in ("leading", "finishing")},
    **{(phase, DOUBTED): ("unconfirmed", "cancel", 0.25) for phase in ("leading", "finishing")},
    **{(phase, INPUTS[4]): ("following", "abandon", 0.5) for phase in ("leading", "finishing")},
    **{(phase, INPUTS[8]): ("releasing", None, 0.0) for phase in ("leading", "finishing")},
    **{("unconfirmed", each): ("leading", "resume", 1.0) for each in ALL_RENEWED},
    **{("unconfirmed", each): ("unconfirmed", None, 0.25) for each in ALL_UNANSWERED},
    ("unconfirmed", INPUTS[4]): ("following", "abandon", 0.5),
    ("releasing", INPUTS[9]): ("following", None, 0.5),
    **{("releasing", each): ("following", None, 0.5) for each in ALL_UNANSWERED},
}


def term_of(phase):
    return Term() if phase == "following" else Term(phase, 7, 100.0)


# the table


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("result", INPUTS, ids=repr)
def test_each_cell_of_the_table_is_as_listed_and_no_other_exists(phase, result):
    if (phase, result) not in CELLS:
        with pytest.raises(KeyError):
            advance(LEASE_SECONDS, term_of(phase), result)
        return
    term, command, seconds = advance(LEASE_SECONDS, term_of(phase), result)
    assert (term.phase, command, pytest.approx(seconds)) == CELLS[phase, result]
    assert (term.phase == "following") == (term == Term())


def test_every_transition_of_the_code_has_a_cell():
    assert {(phase, type(result)) for phase, result in CELLS} == TRANSITIONS.keys()
    assert {type(result) for result in INPUTS} == set(get_args(Input))


@pytest.mark.parametrize("phase", ["leading", "unconfirmed"])
def test_a_confirmation_counts_from_the_start_of_the_call(phase):
    assert advance(LEASE_SECONDS, term_of(phase), RENEWED).term.confirmed_at == 103.0
    assert advance(LEASE_SECONDS, Term(), INPUTS[0]).term == Term("leading", 7, 100.0)


def test_a_lease_that_is_never_lost_is_neither_renewed_nor_doubted():
    assert advance(None, Term(), INPUTS[0]).seconds is None
    assert advance(None, term_of("leading"), Unanswered(1e9)).term.phase == "leading"
    assert trusted_seconds(None, term_of("leading"), 1e9) == float("inf")


def read_table():
    """Return the rows of the README's table: (phase, input, condition, next phase, command)."""
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## Transitions") :].partition("\n## ")[0]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("|")]
    return [tuple(cell.strip(" `") for cell in row) for row in rows[2:]]


def test_the_table_of_the_readme_is_that_of_the_code():
    seen = {
        (phase, type(result).__name__, after, command or "")
        for (phase, result), (after, command, _) in CELLS.items()
    }
    rows = read_table()
    assert {(phase, result, after, command) for phase, result, _, after, command in rows} == seen
    assert len(rows) == len(seen)
    assert all(condition for _, _, condition, _, _ in rows)


def test_the_readme_has_a_sentence_for_each_phase():
    text = README.read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)` \| [a-z]", text, re.MULTILINE)
    assert sorted(described) == PHASES


# the driver, on a virtual clock


class Replica:
    """A leader with its lease, its uploader and its events."""

    def __init__(self, shared, name, log, *, is_candidate=True):
        self.lease, self.events, self.name = ReplicaLease(shared, name), [], name
        self.uploads = Uploads(self.lease, log)
        self.leader = Leader(
            self.lease,
            self.uploads,
            self.uploads.run,
            anyio.current_time,
            self.events.append,
            is_candidate=is_candidate,
        )
        self.life = anyio.CancelScope()
        self.has_ended = anyio.Event()

    async def live(self):
        try:
            with self.life:
                await self.leader.run()
        finally:
            self.has_ended.set()

    def die(self):
        """End at once, without a release."""
        self.lease.mood = "silent"
        self.life.cancel()


@asynccontextmanager
async def replicas(count, **options):
    """Run replicas a, b and so on; a leads."""
    shared, log = SharedLease(), []
    found = [Replica(shared, name, log, **options) for name in "abc"[:count]]
    async with anyio.create_task_group() as tasks:
        for each in found:
            tasks.start_soon(each.live)
        await anyio.sleep(0.01)
        yield SimpleNamespace(shared=shared, log=log, all=found, **dict(zip("abc", found)))  # noqa: B905
        tasks.cancel_scope.cancel()


def virtual(test):
    """Run a test on a virtual clock."""

    def run():
        run_virtually(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def uploading(world):
    return world.shared.uploading


def events_of(replica):
    return [type(each) for each in replica.events]


@virtual
async def test_the_first_replica_uploads_and_goes_on():
    async with replicas(3) as world:
        await anyio.sleep(100.0)
        assert uploading(world) == ["a"]
        assert world.log == [(0.0, "a", "starts")]
        assert world.a.events == [LeadershipTaken(1)]
        assert (world.a.leader.epoch, world.b.leader.epoch) == (1, None)


@virtual
async def test_another_takes_over_within_six_seconds_of_a_death():
    async with replicas(2) as world:
        await anyio.sleep(20.0)
        world.a.die()
        await anyio.sleep(4.0)
        assert uploading(world) == []
        await anyio.sleep(2.1)
        assert uploading(world) == ["b"]
        assert world.b.leader.epoch == 2


@virtual
async def test_a_closed_leader_ends_its_group_and_releases_the_lease():
    async with replicas(2) as world:
        await anyio.sleep(10.2)
        world.a.leader.close()
        await world.a.has_ended.wait()
        world.b.leader.wake()
        await anyio.sleep(0.01)
        assert world.log[1:] == [
            *((10.21, "a", "finishes"), (10.5, "a", "ends"), (10.5, "b", "starts"))
        ]
        assert world.a.events[-1] == LeadershipLost(1, "released")


@virtual
async def test_a_leader_that_is_closed_while_the_lease_is_asked_for_still_ends():
    shared = SharedLease()
    only = Replica(shared, "a", [])
    only.lease.latency = lambda: 0.3
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(only.live)
        await anyio.sleep(0.4)
        only.leader.close()
        with anyio.fail_after(3.0):
            await only.has_ended.wait()
    assert shared.holder is None


@virtual
async def test_a_follower_that_is_closed_ends_at_once():
    async with replicas(2) as world:
        world.b.leader.close()
        with anyio.fail_after(0.01):
            await world.b.has_ended.wait()
        assert uploading(world) == ["a"]


@virtual
async def test_a_task_gets_the_lease_within_a_renewal_and_a_group():
    async with replicas(3) as world:
        await anyio.sleep(10.0)
        began = anyio.current_time()
        async with world.c.leader.hold():
            waited = anyio.current_time() - began
            assert uploading(world) == ["c"]
            await anyio.sleep(30.0)  # while nobody else asks for it
        assert waited < 1.0 + GROUP_SECONDS + 1.01  # and the next attempt of a follower
        await anyio.sleep(60.0)
        assert uploading(world) == ["c"]
        assert [what for _, name, what in world.log if name == "a"] == [
            *("starts", "finishes", "ends")
        ]


@virtual
async def test_a_leader_keeps_the_lease_until_its_task_has_ended():
    async with replicas(2) as world, anyio.create_task_group() as tasks:
        tasks.start_soon(hold_for, world.a, 5.0)
        tasks.start_soon(hold_for, world.a, 15.0)
        await anyio.sleep(1.0)
        tasks.start_soon(hold_for, world.b, 1.0)
        await anyio.sleep(13.5)
        assert uploading(world) == ["a"]
        await anyio.sleep(3.0)
        assert uploading(world) == ["b"]


async def hold_for(replica, seconds):
    async with replica.leader.hold():
        await anyio.sleep(seconds)


@virtual
async def test_a_task_gives_up_if_the_lease_is_not_handed_over():
    async with replicas(2) as world, world.a.leader.hold():
        began = anyio.current_time()
        with pytest.raises(Unavailable, match="did not hand over"):
            await hold_for(world.b, 1.0)
        assert anyio.current_time() - began == pytest.approx(HOLD_WAIT_SECONDS)


@virtual
async def test_a_closed_leader_refuses_tasks_also_those_that_wait():
    async with replicas(2) as world, world.a.leader.hold():
        refusals = []

        async def ask():
            with pytest.raises(Unavailable, match="shutting down"):
                await hold_for(world.b, 1.0)
            refusals.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(10.0)
            world.b.leader.close()
        await ask()
        assert refusals == [pytest.approx(10.01)] * 2


@virtual
async def test_a_closed_leader_keeps_the_lease_until_its_task_has_ended():
    async with replicas(2) as world:
        async with world.a.leader.hold():
            world.a.leader.close()
            await anyio.sleep(20.0)
            assert (world.shared.holder, uploading(world)) == ("a", [])
        await anyio.sleep(2.0)
        assert uploading(world) == ["b"]


@virtual
async def test_a_command_takes_the_lease_only_for_its_task_and_returns_it_on_request():
    async with replicas(1) as world:
        command = Replica(world.shared, "command", world.log, is_candidate=False)

        async def upload_nothing():
            pass

        command.leader.run_uploads = upload_nothing
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(command.live)
            await anyio.sleep(10.0)
            assert command.lease.calls == []
            await hold_for(command, 1.0)
            await hold_for(command, 8.0)  # still its own
            assert world.shared.epoch == 2
            await hold_for(world.a, 1.0)
            assert world.shared.holder == "a"
            tasks.cancel_scope.cancel()


@virtual
async def test_a_service_of_one_process_leads_at_once_and_announces_nothing():
    shared, events = SharedLease(), []
    uploads = Uploads(ReplicaLease(shared, "only"), [])
    leader = Leader(SoleLeader(), uploads, uploads.run, anyio.current_time, events.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leader.run)
        async with leader.hold():
            assert shared.uploading == ["only"]
        await anyio.sleep(600.0)
        assert shared.uploading == ["only"]
        leader.close()
    assert (events, shared.uploading) == ([], [])


@pytest.mark.parametrize("mood", ["failing", "silent"])
def test_a_replica_without_its_database_stops_after_four_seconds_and_goes_on_if_it_still_leads(
    mood,
):
    async def check():
        async with replicas(1) as world:
            await anyio.sleep(10.49)
            world.a.lease.mood = mood
            await anyio.sleep(TRUSTED - 0.6)
            assert uploading(world) == ["a"]  # confirmed at 10.0
            await anyio.sleep(0.11)
            assert uploading(world) == []
            await anyio.sleep(100.0)
            world.a.lease.mood = "well"
            await anyio.sleep(2.0)
            assert uploading(world) == ["a"]
            assert [what for _, _, what in world.log] == ["starts", "ends", "resumes"]
            assert world.a.events == [
                *(LeadershipTaken(1), LeadershipLost(1, "unconfirmed"), LeadershipTaken(1))
            ]

    run_virtually(check)


@virtual
async def test_a_replica_that_the_database_leaves_at_the_worst_moment_stops_in_time():
    """Fast failures until just before the end, then silence: no wait goes beyond the end."""
    async with replicas(1) as world:
        await anyio.sleep(9.99)
        world.a.lease.mood = "failing"
        await anyio.sleep(3.9)  # it was confirmed at 9.0 or 10.0
        world.a.lease.mood = "silent"
        await anyio.sleep(1.0)
        confirmed_at = max(at for at, call in world.a.lease.calls if at < 9.995)
        ended_at = next(at for at, _, what in world.log if what == "ends")
        assert ended_at - confirmed_at <= TRUSTED + 0.001


@virtual
async def test_a_replica_that_has_lost_the_lease_abandons_once_and_follows():
    async with replicas(2) as world:
        await anyio.sleep(10.0)
        world.a.lease.mood = "silent"
        await anyio.sleep(10.0)
        assert uploading(world) == ["b"]
        assert "abandons" not in [what for _, _, what in world.log]
        world.a.lease.mood = "well"
        await anyio.sleep(10.0)
        assert [what for _, name, what in world.log if name == "a"] == [
            "starts",
            "ends",
            "abandons",
        ]
        assert events_of(world.a) == [LeadershipTaken, LeadershipLost]
        world.b.die()
        await anyio.sleep(7.0)
        assert uploading(world) == ["a"]


def depose(world):
    world.shared.epoch += 1
    world.shared.holder, world.shared.until = "somebody", anyio.current_time() + LEASE_SECONDS


@pytest.mark.parametrize("moment", ["leading", "finishing", "closed"])
def test_a_replica_whose_uploader_finds_itself_deposed_abandons(moment):
    async def check():
        async with replicas(1) as world:
            world.a.uploads.asks = True
            await anyio.sleep(10.2)
            if moment == "closed":
                world.a.leader.close()
            elif moment == "finishing":
                world.shared.wanted_by = "somebody"
                world.shared.wanted_at = anyio.current_time()
                await anyio.sleep(0.82)
            depose(world)
            await anyio.sleep(0.6)
            assert [what for _, _, what in world.log[-2:]] == ["ends", "abandons"]
            assert world.a.events[-1] == LeadershipLost(1, "deposed")

    run_virtually(check)


@virtual
async def test_a_crash_ends_the_leader_and_releases_the_lease():
    world = SharedLease()
    only = Replica(world, "a", [])
    only.uploads.crash = ZeroDivisionError()
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError), flatten_subgroups=True):
        await only.leader.run()
    assert world.holder is None
    assert only.lease.calls[-1][1] == "release"


@virtual
async def test_a_cancelled_leader_stops_its_uploader_before_it_releases_the_lease():
    async with replicas(1) as world:
        release = world.a.lease.release

        async def check():
            assert not uploading(world)
            await release()

        world.a.lease.release = check
        world.a.life.cancel()
        await world.a.has_ended.wait()
        assert world.shared.holder is None


# random histories


async def run_history(seed):
    """Let three replicas live through failures of the database, deaths and tasks."""
    rng = random.Random(seed)
    async with replicas(3) as world, anyio.create_task_group() as tasks:
        for each in world.all:
            each.uploads.asks = rng.random() < 0.5
            each.lease.latency = lambda: rng.choice((0.0, 0.0, 0.01, 0.2, 0.45, 1.5))
        for _ in range(40):
            replica = rng.choice(world.all)
            match rng.randrange(6):
                case 0 | 1:
                    replica.lease.mood = rng.choice(("failing", "silent"))
                case 2 | 3:
                    replica.lease.mood = "well"
                case 4:
                    tasks.start_soon(hold_if_possible, replica, rng.random() * 3.0)
                case 5 if rng.random() < 0.1:
                    replica.die()
            await anyio.sleep(rng.choice((0.1, 0.9, 2.0, 5.0)))
        for each in world.all:
            each.lease.mood, each.lease.latency = "well", lambda: 0.0
        await anyio.sleep(HOLD_WAIT_SECONDS + 20.0)
        alive = [each.name for each in world.all if not each.life.cancel_called]
        assert len(uploading(world)) == min(len(alive), 1)
        tasks.cancel_scope.cancel()


async def hold_if_possible(replica, seconds):
    with suppress(Unavailable, Deposed):
        await hold_for(replica, seconds)


@pytest.mark.parametrize("seed", range(100))
def test_two_replicas_never_upload_at_once_and_one_does_in_the_end(seed):
    run_virtually(run_history, seed)


async def lose_lease(world):
    await anyio.sleep(0.1)
    world.shared.holder, world.shared.epoch = "another", 2


@virtual
async def test_a_task_ends_when_the_lease_is_lost():
    async with replicas(1) as world:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose_lease, world)
            with pytest.raises(Deposed):
                await hold_for(world.a, 60.0)
        assert anyio.current_time() < 3.0


@virtual
async def test_a_leader_whose_uploads_fail_for_a_minute_lets_another_try():
    async with replicas(2) as world:
        world.a.leader.uploads.lead.record_failure(anyio.current_time())
        await anyio.sleep(FAILING_SECONDS - 2.0)
        assert uploading(world) == ["a"]
        await anyio.sleep(5.0)
        assert uploading(world) == ["b"]


@virtual
async def test_while_foundry_is_down_for_all_the_lease_goes_round_less_and_less_often():
    async with replicas(2) as world:
        for _ in range(1_200):
            for each in world.all:
                if each.lease.name in uploading(world):
                    each.leader.uploads.lead.record_failure(anyio.current_time())
            await anyio.sleep(1.0)
        early = [at for at, _, what in world.log if what == "starts" and at < 300.0]
        late = [at for at, _, what in world.log if what == "starts" and at >= 900.0]
        assert len(early) <= 5
        assert len(late) <= 2


@virtual
async def test_success_resets_the_limit_of_failures():
    async with replicas(2) as world:
        lead = world.a.leader.uploads.lead
        world.a.leader.failing_seconds = 600.0
        lead.record_progress()
        await anyio.sleep(2.0)
        assert world.a.leader.failing_seconds == FAILING_SECONDS
