"""Others write to the branch, too."""

from collections.abc import Callable
from datetime import datetime

import anyio
from aiohttp import web

from atlas.core import names, rows
from atlas.core.messages import User
from atlas.local.foundry.branches import FoundryApiError, Transaction
from atlas.local.http import drop_connection
from tests.chaos.bench import Bench
from tests.chaos.oracle import Reply
from tests.chaos.phones import DEVICE, TIMESTAMP, Export

OTHERS = b'{"uuid":"of somebody else"}\n'
FREE_SECONDS = 0.002


async def foreign_transactions(bench: Bench) -> None:
    """Held with files and committed; held empty and aborted; opened where our create was lost."""
    branches = bench.standins.foundry.branches
    ends: tuple[Callable[[Transaction], None], ...] = (branches.commit, branches.abort)
    await bench.atlas.start()
    async with bench.phones.sending(bench.scale.number(1_000, least=40), phones=32):
        for end in ends:
            await bench.wait(1.0, least=0.5)
            found = await opened_by_another(bench)
            if end == branches.commit:
                branches.put(found, "somebody/else.ndjson", OTHERS)
            await hold_and_end(bench, found, end)
        await hold_and_end(bench, await instead_of_ours(bench), branches.abort)


async def hold_and_end(
    bench: Bench, found: Transaction, end: Callable[[Transaction], None]
) -> None:
    await bench.wait(300, least=1.5)
    bench.findings.expect(found.status == "OPEN", "A foreign transaction was ended.")
    bench.findings.expect(set(found.files) <= {"somebody/else.ndjson"}, "A foreign one was joined.")
    bench.findings.note(f"held with {len(found.files)} files")
    if found.status == "OPEN":
        end(found)


async def opened_by_another(bench: Bench) -> Transaction:
    """As soon as nobody has one open."""
    while True:
        try:
            return bench.standins.foreign()
        except FoundryApiError:
            await anyio.sleep(FREE_SECONDS)


async def instead_of_ours(bench: Bench) -> Transaction:
    """Our create is cut and never happens, and somebody else opens one in that moment."""
    opened: list[Transaction] = []

    def steal(what: str, request: web.Request) -> web.Response | None:
        if what != "create" or opened:
            return None
        try:
            opened.append(bench.standins.foreign())
        except FoundryApiError:
            return None
        return drop_connection(request)

    bench.standins.before = steal
    while not opened:
        await anyio.sleep(FREE_SECONDS)
    return opened[0]


async def foreign_commits(bench: Bench) -> None:
    """Somebody commits our open transaction between two of our puts."""
    branches, chance = bench.standins.foundry.branches, bench.chance
    times = bench.scale.number(20, least=4)
    done, puts = 0, chance.randint(1, 4)

    def commit(what: str, request: web.Request, _answer: web.StreamResponse) -> None:
        nonlocal done, puts
        if what != "upload" or done >= times:
            return
        puts -= 1
        found = branches.transactions[request.query["transactionRid"]]
        if puts <= 0 and found.status == "OPEN":
            branches.commit(found)
            done, puts = done + 1, chance.randint(1, 12)

    await bench.atlas.start()
    bench.standins.after = commit
    async with bench.phones.sending(bench.scale.number(200, least=60)):
        while done < times:
            await anyio.sleep(0.05)
    bench.findings.note(f"{done} transactions committed by somebody else")


async def paths_exist(bench: Bench) -> None:
    """Paths of ours are in the dataset before us: with our bytes, with other bytes."""
    branches = bench.standins.foundry.branches
    found = await opened_by_another(bench)
    await bench.atlas.start()
    ours = others = 0
    for number in range(bench.scale.number(200, least=24)):
        export = bench.phones.next(lambda number: f"auth0|path {number}")
        reply = await bench.phones.deliver(export, Prefer="respond-async")
        if reply is None or number % 3 == 0:
            continue
        is_ours = number % 3 == 1
        branches.put(found, path_of(export, reply), rows_of(export, reply) if is_ours else OTHERS)
        ours, others = ours + is_ours, others + (not is_ours)
    branches.commit(found)
    await bench.until_drained()
    view = branches.get_branch(found.dataset, found.branch).view
    kept = sum(view[path] is found for path in found.files)
    bench.findings.note(f"{ours} with our bytes, {others} with others")
    if bench.standins.foundry.behaviour.path_taken == "never":
        bench.findings.note(f"this Foundry refuses no path: it replaced {len(found.files) - kept}")
        return
    bench.findings.expect(kept == len(found.files), "A file of somebody else was replaced.")


def path_of(export: Export, reply: Reply) -> str:
    """Of a user who sends for the first time: nobody has pushed it on."""
    return names.path_at(User(export.sub), datetime.fromisoformat(reply.ingestion_timestamp))


def rows_of(export: Export, reply: Reply) -> bytes:
    header = rows.Header(export.sub, DEVICE, reply.ingestion_timestamp, TIMESTAMP)
    return rows.flatten(export.lines, header).ndjson
