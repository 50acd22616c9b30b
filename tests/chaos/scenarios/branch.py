"""Others write to the branch, too."""

from collections.abc import Callable
from datetime import datetime

import anyio
from aiohttp import web

from atlas.core import identifiers, rows
from atlas.core.messages import User
from atlas.local.foundry.branches import FoundryApiError, Transaction
from atlas.local.http import drop_connection
from tests.chaos.clients import DEVICE, TIMESTAMP, Export
from tests.chaos.oracle import Reply
from tests.chaos.trial_environment import TrialEnvironment

FOREIGN_CONTENT = b'{"uuid":"of somebody else"}\n'
FREE_SECONDS = 0.002


async def open_foreign_transactions(bench: TrialEnvironment) -> None:
    """Held with files and committed; held empty and aborted; opened where our create was lost."""
    branches = bench.emulators.foundry.branches
    ends: tuple[Callable[[Transaction], None], ...] = (branches.commit, branches.abort)
    await bench.atlas.start()
    async with bench.clients.keep_sending(bench.scale.scale_number(1_000, least=40), phones=32):
        for end in ends:
            await bench.wait(1.0, least=0.5)
            transaction = await open_foreign(bench)
            if end == branches.commit:
                branches.put(transaction, "somebody/else.ndjson", FOREIGN_CONTENT)
            await hold_and_end(bench, transaction, end)
        await hold_and_end(bench, await open_instead_of_ours(bench), branches.abort)


async def hold_and_end(
    bench: TrialEnvironment, transaction: Transaction, end: Callable[[Transaction], None]
) -> None:
    await bench.wait(300, least=1.5)
    bench.findings.check(transaction.status == "OPEN", "A foreign transaction was ended.")
    bench.findings.check(
        set(transaction.files) <= {"somebody/else.ndjson"}, "A foreign one was joined."
    )
    bench.findings.add_fact(f"held with {len(transaction.files)} files")
    if transaction.status == "OPEN":
        end(transaction)


async def open_foreign(bench: TrialEnvironment) -> Transaction:
    """As soon as nobody has one open."""
    while True:
        try:
            return bench.emulators.open_foreign()
        except FoundryApiError:
            await anyio.sleep(FREE_SECONDS)


async def open_instead_of_ours(bench: TrialEnvironment) -> Transaction:
    """Our create is cut and never happens, and somebody else opens one in that moment."""
    opened: list[Transaction] = []

    def steal(what: str, request: web.Request) -> web.Response | None:
        if what != "create" or opened:
            return None
        try:
            opened.append(bench.emulators.open_foreign())
        except FoundryApiError:
            return None
        return drop_connection(request)

    bench.emulators.before = steal
    while not opened:
        await anyio.sleep(FREE_SECONDS)
    return opened[0]


async def commit_by_another(bench: TrialEnvironment) -> None:
    """Somebody commits our open transaction between two of our puts."""
    branches, rng = bench.emulators.foundry.branches, bench.rng
    times = bench.scale.scale_number(20, least=4)
    done, puts = 0, rng.randint(1, 4)

    def commit(what: str, request: web.Request, _answer: web.StreamResponse) -> None:
        nonlocal done, puts
        if what != "upload" or done >= times:
            return
        puts -= 1
        transaction = branches.transactions[request.query["transactionRid"]]
        if puts <= 0 and transaction.status == "OPEN":
            branches.commit(transaction)
            done, puts = done + 1, rng.randint(1, 12)

    await bench.atlas.start()
    bench.emulators.after = commit
    async with bench.clients.keep_sending(bench.scale.scale_number(200, least=60)):
        while done < times:
            await anyio.sleep(0.05)
    bench.findings.add_fact(f"{done} transactions committed by somebody else")


async def occupy_paths(bench: TrialEnvironment) -> None:
    """Paths of ours are in the dataset before us: with our bytes, with other bytes."""
    branches = bench.emulators.foundry.branches
    transaction = await open_foreign(bench)
    await bench.atlas.start()
    same_content = other_content = 0
    for number in range(bench.scale.scale_number(200, least=24)):
        export = bench.clients.next_export(lambda number: f"auth0|path {number}")
        reply = await bench.clients.deliver(export, Prefer="respond-async")
        if reply is None or number % 3 == 0:
            continue
        is_ours = number % 3 == 1
        branches.put(
            transaction,
            find_path(export, reply),
            build_rows(export, reply) if is_ours else FOREIGN_CONTENT,
        )
        same_content, other_content = same_content + is_ours, other_content + (not is_ours)
    branches.commit(transaction)
    await bench.wait_until_drained()
    view = branches.get_branch(transaction.dataset, transaction.branch).view
    unchanged = sum(view[path] is transaction for path in transaction.files)
    bench.findings.add_fact(f"{same_content} with our bytes, {other_content} with others")
    if bench.emulators.foundry.behaviour.path_taken == "never":
        bench.findings.add_fact(
            f"this Foundry refuses no path: it replaced {len(transaction.files) - unchanged}"
        )
        return
    bench.findings.check(
        unchanged == len(transaction.files), "A file of somebody else was replaced."
    )


def find_path(export: Export, reply: Reply) -> str:
    """Of a user who sends for the first time: nobody has pushed it on."""
    return identifiers.build_path(
        User(export.sub), datetime.fromisoformat(reply.ingestion_timestamp)
    )


def build_rows(export: Export, reply: Reply) -> bytes:
    header = rows.Header(export.sub, DEVICE, reply.ingestion_timestamp, TIMESTAMP)
    return rows.flatten(export.lines, header).ndjson
