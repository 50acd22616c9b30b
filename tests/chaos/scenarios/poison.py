"""Exports that crash a stage or that Foundry refuses, and stages that crash at random."""

import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

import anyio
from aiohttp import web

from atlas.local.foundry.behaviour import PathRefusal
from tests.chaos.clients import Export
from tests.chaos.failpoints import Failpoint
from tests.chaos.injected_faults import EVERYWHERE, FAULT_MARKER, IN_FLATTEN
from tests.chaos.oracle import Reply
from tests.chaos.service_process import Broken
from tests.chaos.trial_environment import TrialEnvironment

TRIES_MAX = 5
NEIGHBOURS_RATE = 0.95
EVERY = 20  # calls of a stage between two crashes
CRASHES_SHARE = 0.15  # of the exports
ANSWERED_AFTER_A_CRASH = "500 INTERNAL_ERROR"
POISON_USER, POISON_EXPORTS = "auth0|poison", 5
UNKNOWN_REFUSAL = "FileContentRefused"  # an undocumented name
ASIDE_SECONDS, ASIDE_GROUPS = 60.0, 30
STEADY_RATE, STEADY_PHONES = 20.0, 64
ANSWERED_SHARE = 0.95


async def send_one_in_a_thousand(testbed: TrialEnvironment) -> None:
    """One export crashes flatten and one is refused by Foundry, among many good ones.

    Both are set aside and delay no other export. Once the cause is gone, they are replayed.
    """

    def refuse(what: str, request: web.Request) -> web.Response | None:
        is_poison = what == "upload" and "poison" in request.path
        return web.Response(status=413) if is_poison else None

    await testbed.atlas.start(Failpoint(IN_FLATTEN, 1))
    neighbours = testbed.scale.scale_number(1_000, least=30)
    clean = await measure_rate(testbed, neighbours)
    testbed.emulators.before = refuse
    refused = await send_poison(testbed, testbed.clients.next_export(lambda _: "auth0|poison"))
    broken = await crash_flatten(testbed)
    rate_with_poison = await measure_rate(testbed, neighbours)
    await testbed.wait_until_drained()
    tries = sum(call.status == 413 for call in testbed.emulators.calls)
    aside = (await testbed.fetch_totals()).set_aside
    testbed.findings.add_fact(
        f"set aside after {tries} tries, neighbours at {rate_with_poison / clean:.0%}"
    )
    testbed.findings.check(aside == 2, f"{aside} set aside, not two.")
    testbed.findings.check(tries == TRIES_MAX, f"Tried {tries} times.")
    if testbed.scale.is_full:
        testbed.findings.check(
            rate_with_poison >= NEIGHBOURS_RATE * clean,
            f"Neighbours at {rate_with_poison / clean:.0%}.",
        )
    testbed.emulators.before = None
    await testbed.restart()
    for reply in (refused, broken):
        await testbed.replay(reply.receipt_id)
    await expect_nothing_aside(testbed)


async def send_poison(testbed: TrialEnvironment, export: Export) -> Reply:
    """Send an export that will fail. Raises Broken if it is not accepted."""
    reply = await testbed.clients.deliver(export, Prefer="respond-async")
    if reply is None:
        raise Broken("The poison was refused.")
    return reply


async def crash_flatten(testbed: TrialEnvironment) -> Reply:
    """Send it twice: the first time it crashes the stage, the second time it does not get there."""
    clean = testbed.clients.next_export()
    export = replace(clean, lines=(*clean.lines[1:], mark_line(clean.lines[0])))
    replies = [await send_poison(testbed, export) for _ in range(2)]
    testbed.findings.crashes = testbed.atlas.count_bugs()
    testbed.findings.check(
        all(reply.status == "set_aside" for reply in replies), "The answer is not `set_aside`."
    )
    testbed.findings.check(
        testbed.findings.crashes == 1,
        f"It crashed flatten {testbed.findings.crashes} times, not once.",
    )
    return replies[0]


def mark_line(line: bytes) -> bytes:
    return b'{"says":' + FAULT_MARKER + b"," + line[1:]


async def measure_rate(testbed: TrialEnvironment, exports: int) -> float:
    """Return the exports per second."""
    began = time.monotonic()
    async with testbed.clients.keep_sending(exports):
        pass
    return exports / (time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class IsolationResult:
    """The seconds and groups until all poison exports were set aside, and how many were."""

    seconds: float
    groups: int
    aside: int


async def refuse_many(testbed: TrialEnvironment) -> None:
    """Foundry refuses five exports of one user at their upload, with an undocumented error name."""
    refuse_user(testbed, PathRefusal(contains="poison", name=UNKNOWN_REFUSAL))
    isolation = await isolate_among_others(testbed)
    expect_isolated(testbed, isolation)


async def refuse_many_at_commit(testbed: TrialEnvironment) -> None:
    """They make every commit of their groups fail, and Foundry does not say which is at fault."""
    refuse_user(testbed, PathRefusal(contains="poison", at="commit", name=UNKNOWN_REFUSAL))
    isolation = await isolate_among_others(testbed)
    testbed.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")


async def refuse_many_shared(testbed: TrialEnvironment) -> None:
    """They make every shared file be refused that contains their rows."""
    testbed.emulators.refused_rows = POISON_USER.encode()
    isolation = await isolate_among_others(testbed)
    testbed.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")


async def leave_many_unanswered(testbed: TrialEnvironment) -> None:
    """Uploads of one user are always answered 500: none is set aside, and no other is delayed."""

    def fail(what: str, request: web.Request) -> web.Response | None:
        is_theirs = what == "upload" and "poison" in request.path
        return web.Response(status=500) if is_theirs else None

    await testbed.atlas.start()
    async with keep_steady_flow(testbed):
        await testbed.wait_until_committed(5)
        testbed.emulators.before = fail
        for _ in range(POISON_EXPORTS):
            await send_poison(testbed, testbed.clients.next_export(lambda _: POISON_USER))
        await testbed.wait(600, least=8.0)
        aside = (await testbed.fetch_totals()).set_aside
        testbed.emulators.before = None
        answered = time.monotonic()
    expect_answered(testbed)
    await testbed.wait_until_drained()
    took = time.monotonic() - answered
    testbed.findings.add_fact(f"all committed {took:.1f} s after uploads were answered again")
    aside = max(aside, (await testbed.fetch_totals()).set_aside)
    testbed.findings.check(aside == 0, f"{aside} set aside although only answers were lost.")


def refuse_user(testbed: TrialEnvironment, refusal: PathRefusal) -> None:
    testbed.emulators.foundry.options.refusals = (refusal,)


def keep_steady_flow(testbed: TrialEnvironment) -> AbstractAsyncContextManager[None]:
    exports = testbed.scale.scale_number(1_000, least=60)
    return testbed.clients.keep_sending(exports, phones=STEADY_PHONES, per_second=STEADY_RATE)


async def isolate_among_others(testbed: TrialEnvironment) -> IsolationResult:
    """Send them among others until all are set aside; then fix the cause and replay them."""
    await testbed.atlas.start()
    async with keep_steady_flow(testbed):
        await testbed.wait_until_committed(5)
        before, began = len(testbed.emulators.list_transactions()), time.monotonic()
        for _ in range(POISON_EXPORTS):
            await send_poison(testbed, testbed.clients.next_export(lambda _: POISON_USER))
        with anyio.move_on_after(ASIDE_SECONDS):
            while (await testbed.fetch_totals()).set_aside < POISON_EXPORTS:
                await anyio.sleep(0.05)
        seconds = time.monotonic() - began
        groups = testbed.emulators.list_transactions()[before:]
        aside = (await testbed.fetch_totals()).set_aside
    isolation = IsolationResult(seconds, len(groups), aside)
    failed = sum(each.status == "ABORTED" for each in groups)
    testbed.findings.add_fact(
        f"{aside} set aside after {seconds:.1f} s and {len(groups)} groups, {failed} aborted"
    )
    testbed.findings.check(seconds <= ASIDE_SECONDS, f"It took {seconds:.0f} s.")
    expect_answered(testbed)
    await testbed.wait_until_drained()
    await testbed.emulators.clear_faults()
    await testbed.replay()
    await expect_nothing_aside(testbed)
    return isolation


def expect_isolated(testbed: TrialEnvironment, isolation: IsolationResult) -> None:
    testbed.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")
    testbed.findings.check(isolation.groups <= ASIDE_GROUPS, f"It took {isolation.groups} groups.")


def expect_answered(testbed: TrialEnvironment) -> None:
    """Expect a 200 for nearly all others, which did not ask for an early answer."""
    replies = [sent.reply for sent in testbed.oracle.sent.values() if sent.reply is not None]
    committed = sum(reply.status == "committed" for reply in replies)
    share = committed / (len(replies) - POISON_EXPORTS)
    testbed.findings.add_fact(f"{share:.1%} of the others answered 200")
    testbed.findings.check(share >= ANSWERED_SHARE, f"Only {share:.1%} answered 200.")


async def crash_everywhere(testbed: TrialEnvironment) -> None:
    """Each stage crashes repeatedly between good messages; then the bug is fixed."""
    exports = testbed.scale.scale_number(5_000, least=100)
    await testbed.atlas.start(Failpoint(EVERYWHERE, EVERY))
    async with testbed.clients.keep_sending(exports, phones=32):
        pass
    crashes, answered = (
        testbed.atlas.count_bugs(),
        testbed.oracle.surprises.pop(ANSWERED_AFTER_A_CRASH, 0),
    )
    aside = (await testbed.fetch_totals()).set_aside
    testbed.findings.add_fact(f"{crashes} crashes, {answered} answered 500, {aside} set aside")
    testbed.findings.check(crashes >= CRASHES_SHARE * exports, f"It crashed {crashes} times only.")
    testbed.findings.crashes = crashes
    await testbed.restart()
    await testbed.replay()
    await expect_nothing_aside(testbed)


async def expect_nothing_aside(testbed: TrialEnvironment) -> None:
    await testbed.wait_until_drained()
    aside = (await testbed.fetch_totals()).set_aside
    testbed.findings.check(aside == 0, f"{aside} set aside after the replay.")
