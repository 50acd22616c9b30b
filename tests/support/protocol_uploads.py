"""Uploads in the simulator of the commit protocol: an export's nature, or chance, decides."""

from atlas.actors.upload import effects as e
from atlas.actors.upload.reports import FileRefusal, UploadReport
from atlas.core.errors import FoundryError
from atlas.core.messages import File
from tests.support.protocol_foundry import NO_ROWS

NOISE = ("unconfirmed", "refused", "invalid", "silent", "spoiling", "interrupted")
LISTS = ("stored", "unconfirmed", "taken", "refused", "unanswered", "interrupted")
LIST_OF_FATE = {"silent": "unanswered", "unconfirmed": "unconfirmed", "interrupted": "interrupted"}
REFUSED = frozenset({"refused", "invalid", "spoiling"})
SILENCE = FoundryError("No answer.")


def upload(world, effect):
    """Put file after file, without an interruption."""
    steps = put_files(world, effect)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def put_files(world, effect):
    """Put file after file; outsiders may end the transaction in between. Yields before each."""
    rid, is_ended = effect.transaction, False
    assert world.is_recorded(rid), "files are put into a transaction that is not recorded"
    transaction = world.foundry.transactions[rid]
    corrupt = [x.id for x in effect.group.exports if world.natures[x.id] == "corrupt"]
    lists = {name: [] for name in LISTS}
    for file in plan(world, effect.group):
        yield
        if world.noise and world.chance() < 0.03:
            world.end_open_transaction()
        if transaction.state != "OPEN":
            is_ended = True
            lists["interrupted"].append(file)
            break
        fate = put(world, transaction, file, lists)
        if fate == "silent" and world.chance() < 0.2:
            break
    error = SILENCE if lists["unanswered"] else None
    report = UploadReport(
        *map(tuple, lists.values()), tuple(corrupt), is_ended, transaction.is_spoiled, error
    )
    return e.Uploaded(report)


def put(world, transaction, file, lists):
    foundry, fate = world.foundry, fate_of(world, file)
    rows = frozenset([export.id for export in file.exports])
    if fate in REFUSED:
        lists["refused"].append(FileRefusal(file, fate, fate == "invalid"))
        for id in rows:
            world.blame[id] += 1
        if fate == "spoiling":
            foundry.put(transaction.rid, file.path, file.bytes + 1, NO_ROWS)
            transaction.is_spoiled = True
    elif foundry.is_taken(transaction, file.path):
        lists["taken"].append(file)
    elif fate == "stored":
        foundry.put(transaction.rid, file.path, file.bytes, rows)
        lists["stored"].append(file)
    else:  # it is there, will be there, or is not
        roll = world.chance()
        if roll < 0.4:
            foundry.put(transaction.rid, file.path, file.bytes, rows)
        elif roll < 0.6:
            foundry.late_puts.append((transaction.rid, file.path, file.bytes, rows))
        lists[LIST_OF_FATE[fate]].append(file)
    return fate


def plan(world, group):
    """Return the files of the readable exports; fresh ones may share one."""
    natures, files = world.natures, group.files
    if world.shares and world.chance() < world.shares:
        fresh = [x for x in group.exports if not x.isolation and natures[x.id] != "corrupt"]
        files = [file for file in files if file.exports[0].isolation]
        if fresh:
            path, size = world.journal.record_shared_file([export.id for export in fresh])
            files.insert(0, File(path, size, tuple(fresh)))
    return [file for file in files if natures[file.exports[0].id] != "corrupt"]


def fate_of(world, file):
    if not (world.noise or world.is_odd or world.has_outage):
        return "stored"
    natures = [world.natures[export.id] for export in file.exports]
    for nature in ("silent", "refused", "invalid", "spoiling"):
        if nature in natures:
            return nature
    if "quicker" in natures:
        return "stored"
    if world.has_outage:
        return "refused"
    if world.chance() < world.noise:
        return world.rng.choice(NOISE)
    return "stored"
