"""Mishaps of the simulated commit protocol, other than lost responses and ends of runs."""

from msgspec.structs import replace

from atlas.actors.upload import effects as e
from atlas.actors.upload.states import AT_REST, State, Work
from atlas.core.commits import Conclusion
from atlas.core.errors import BranchBusy
from atlas.core.messages import BranchSnapshot
from tests.support.protocol_effects import WOKEN
from tests.support.protocol_foundry import NO_ROWS

BETWEEN_GROUPS = AT_REST | {"assessing"}


def restore(world):
    """Replace the journal by an older copy. A person ends transactions that are open."""
    found, foundry = world.foundry.open, world.foundry
    if not world.backups:
        world.start_anew()
        return
    world.note("an older copy is restored")
    journal, natures, failed_at = world.rng.choice(world.backups)
    world.failed_at = dict(failed_at)
    world.journal = journal.copy()
    foundry.late_begins = []
    if found is not None and not (found.rid == world.journal.open and world.chance() < 0.5):
        foundry.abort(found)
    for id in world.natures.keys() - natures.keys():
        world.natures[id] = "lost"  # it is in the dataset, or nowhere
    world.start_anew()


def land_begin(world):
    world.foundry.land_begin(world.now)


def land_others(world):
    world.foundry.land_others()


def let_time_pass(world):
    """Advance the clock, except during an attempt to begin: its time identifies the transaction."""
    if world.state.phase not in {"claiming", "opening"}:
        world.now += world.rng.choice((1.0, 6.0, 70.0, 3600.0))


def change_outage(world):
    world.has_outage = not world.has_outage


def retry(world):
    for row in world.journal.with_status("set_aside"):
        world.failed_at.pop(row.id, None)
    world.journal.retry()


def purge(world):
    """Erase a person, with all their waiting exports."""
    for row in world.journal.with_status("accepted"):
        del world.journal.rows[row.id]


def read_stale_status(world):
    """Have Foundry report a transaction as open that has just ended."""
    if type(world.effect) is e.ReadStatus:
        world.go_on(e.StatusRead("OPEN"))


def somebody_begins(world):
    """If Atlas is the only writer, open only what cannot be mistaken for its own."""
    foundry = world.foundry
    if foundry.open is not None:
        return
    is_sole, roll = world.policy.is_sole_writer, world.chance()
    can_be_told = not is_sole or foundry.listing == "listed"
    kind = "APPEND" if can_be_told and roll < 0.7 else "UPDATE"
    theirs = foundry.begin(kind, world.now, is_ours=False)
    if is_sole or roll < 0.4:
        theirs.files[f"theirs.{theirs.rid}"] = 1, NO_ROWS


def somebody_ends_it(world):
    found = world.foundry.open
    if found is None:
        return
    if world.chance() < 0.6 and world.foundry.can_commit(found):
        world.foundry.commit(found)
    else:
        world.foundry.abort(found)


def somebody_takes_a_path(world):
    """Put other rows or ours at a path: another service has been quicker."""
    foundry = world.foundry
    if foundry.open is not None:
        return
    rows = [row for row in world.journal.with_status("accepted") if row.path not in foundry.files]
    if not rows:
        return
    row = world.rng.choice(rows)
    theirs = foundry.begin("APPEND", world.now, is_ours=False)
    content = row.bytes + world.rng.choice((0, 1)), NO_ROWS
    if world.shares == 0.0 and world.natures[row.id] == "good" and world.chance() < 0.4:
        content = row.bytes, frozenset((row.id,))
        world.natures[row.id] = "quicker"
    theirs.files[row.path] = content
    foundry.commit(theirs)


def run_errand(world):
    """Run a task like Uploader.exclusive and Uploader.open_transaction; it may fail anywhere."""
    world.note("an errand")
    if world.state.phase == "paused":
        world.go_on(WOKEN)
    while world.state.phase not in BETWEEN_GROUPS:
        result = world.perform(world.effect)
        world.go_on(result)
        if type(result) is e.Failed:
            return
    state, effect, known = world.state, world.effect, world.state.memory
    memory = replace(known, snapshot=None)
    world.state, world.effect = State("recovering", Work(), memory), e.ReadWorkInHand()
    try:
        for _ in errand_steps(world):
            world.now += 0.5
            roll = world.chance()
            if roll < 0.1:
                world.start_anew()
            if roll < 0.2:
                return
    except BranchBusy:
        return
    world.state, world.effect = State(state.phase, state.work, memory), effect


def errand_steps(world):
    journal, foundry = world.journal, world.foundry
    kind = world.rng.choice(("APPEND", "DELETE"))
    yield
    journal.record_intent(BranchSnapshot(foundry.head, world.now), kind)
    foundry.lose_begin(kind, world.now)
    yield
    foundry.late_begins.pop()
    if foundry.open is not None:
        if not world.state.memory.is_unsettled:
            journal.intents.clear()
        raise BranchBusy
    transaction = foundry.begin(kind, world.now)
    yield
    journal.record_open(transaction.rid)
    yield
    world.rng.choice((foundry.commit, foundry.abort))(transaction)
    yield
    journal.conclude(Conclusion(transaction.rid))


MEDDLERS = (
    *(land_begin, land_begin, land_others, land_others, somebody_begins, somebody_ends_it),
    *(somebody_ends_it, somebody_takes_a_path, let_time_pass, change_outage, retry, purge),
    read_stale_status,
)
