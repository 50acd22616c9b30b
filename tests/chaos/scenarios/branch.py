"""Other clients write to the same branch."""

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


async def open_foreign_transactions(testbed: TrialEnvironment) -> None:
    """Open foreign transactions: committed with files, aborted while empty, and instead of ours."""
    branches = testbed.emulators.foundry.branches
    ends: tuple[Callable[[Transaction], None], ...] = (branches.commit, branches.abort)
    await testbed.atlas.start()
    async with testbed.clients.keep_sending(testbed.scale.scale_number(1_000, least=40), phones=32):
        for end in ends:
            await testbed.wait(1.0, least=0.5)
            transaction = await open_foreign(testbed)
            if end == branches.commit:
                branches.put(transaction, "somebody/else.ndjson", FOREIGN_CONTENT)
            await hold_and_end(testbed, transaction, end)
        await hold_and_end(testbed, await open_instead_of_ours(testbed), branches.abort)


async def hold_and_end(
    testbed: TrialEnvironment, transaction: Transaction, end: Callable[[Transaction], None]
) -> None:
    await testbed.wait(300, least=1.5)
    testbed.findings.check(transaction.status == "OPEN", "A foreign transaction was ended.")
    testbed.findings.check(
        set(transaction.files) <= {"somebody/else.ndjson"}, "A foreign transaction was used."
    )
    testbed.findings.add_fact(f"held with {len(transaction.files)} files")
    if transaction.status == "OPEN":
        end(transaction)


async def open_foreign(testbed: TrialEnvironment) -> Transaction:
    """Open a foreign transaction as soon as none is open."""
    while True:
        try:
            return testbed.emulators.open_foreign()
        except FoundryApiError:
            await anyio.sleep(FREE_SECONDS)


async def open_instead_of_ours(testbed: TrialEnvironment) -> Transaction:
    """Cut the service's create before it takes effect, and open a foreign transaction at that
    moment.
    """
    opened: list[Transaction] = []

    def steal(what: str, request: web.Request) -> web.Response | None:
        if what != "create" or opened:
            return None
        try:
            opened.append(testbed.emulators.open_foreign())
        except FoundryApiError:
            return None
        return drop_connection(request)

    testbed.emulators.before = steal
    while not opened:
        await anyio.sleep(FREE_SECONDS)
    return opened[0]


async def commit_by_another(testbed: TrialEnvironment) -> None:
    """Commit the service's open transaction from outside, between two of its uploads."""
    branches, rng = testbed.emulators.foundry.branches, testbed.rng
    times = testbed.scale.scale_number(20, least=4)
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

    await testbed.atlas.start()
    testbed.emulators.after = commit
    async with testbed.clients.keep_sending(testbed.scale.scale_number(200, least=60)):
        while done < times:
            await anyio.sleep(0.05)
    testbed.findings.add_fact(f"{done} transactions committed from outside")


async def occupy_paths(testbed: TrialEnvironment) -> None:
    """Put files at the service's paths beforehand: some with its bytes, some with other bytes."""
    branches = testbed.emulators.foundry.branches
    transaction = await open_foreign(testbed)
    await testbed.atlas.start()
    same_content = other_content = 0
    for number in range(testbed.scale.scale_number(200, least=24)):
        export = testbed.clients.next_export(lambda number: f"auth0|path {number}")
        reply = await testbed.clients.deliver(export, Prefer="respond-async")
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
    await testbed.wait_until_drained()
    view = branches.get_branch(transaction.dataset, transaction.branch).view
    unchanged = sum(view[path] is transaction for path in transaction.files)
    testbed.findings.add_fact(f"{same_content} with our bytes, {other_content} with other bytes")
    if testbed.emulators.foundry.behaviour.path_taken == "never":
        testbed.findings.add_fact(
            f"this Foundry refuses no path: it replaced {len(transaction.files) - unchanged}"
        )
        return
    testbed.findings.check(unchanged == len(transaction.files), "A foreign file was replaced.")


def find_path(export: Export, reply: Reply) -> str:
    """Return the path of an export of a new user, whose path has no suffix yet."""
    return identifiers.build_path(
        User(export.sub), datetime.fromisoformat(reply.ingestion_timestamp)
    )


def build_rows(export: Export, reply: Reply) -> bytes:
    header = rows.Header(export.sub, DEVICE, reply.ingestion_timestamp, TIMESTAMP)
    return rows.flatten(export.lines, header).ndjson
