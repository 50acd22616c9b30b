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


async def send_one_in_a_thousand(bench: TrialEnvironment) -> None:
    """One export crashes flatten and one is refused by Foundry, among many good ones.

    Both are set aside and delay no other export. Once the cause is gone, they are replayed.
    """

    def refuse(what: str, request: web.Request) -> web.Response | None:
        is_poison = what == "upload" and "poison" in request.path
        return web.Response(status=413) if is_poison else None

    await bench.atlas.start(Failpoint(IN_FLATTEN, 1))
    neighbours = bench.scale.scale_number(1_000, least=30)
    clean = await measure_rate(bench, neighbours)
    bench.emulators.before = refuse
    refused = await send_poison(bench, bench.clients.next_export(lambda _: "auth0|poison"))
    broken = await crash_flatten(bench)
    rate_with_poison = await measure_rate(bench, neighbours)
    await bench.wait_until_drained()
    tries = sum(call.status == 413 for call in bench.emulators.calls)
    aside = (await bench.fetch_totals()).set_aside
    bench.findings.add_fact(
        f"set aside after {tries} tries, neighbours at {rate_with_poison / clean:.0%}"
    )
    bench.findings.check(aside == 2, f"{aside} set aside, not two.")
    bench.findings.check(tries == TRIES_MAX, f"Tried {tries} times.")
    if bench.scale.is_full:
        bench.findings.check(
            rate_with_poison >= NEIGHBOURS_RATE * clean,
            f"Neighbours at {rate_with_poison / clean:.0%}.",
        )
    bench.emulators.before = None
    await bench.restart()
    for reply in (refused, broken):
        await bench.replay(reply.receipt_id)
    await expect_nothing_aside(bench)


async def send_poison(bench: TrialEnvironment, export: Export) -> Reply:
    """Send an export that will fail. Raises Broken if it is not accepted."""
    reply = await bench.clients.deliver(export, Prefer="respond-async")
    if reply is None:
        raise Broken("The poison was turned away.")
    return reply


async def crash_flatten(bench: TrialEnvironment) -> Reply:
    """Send it twice: the first time it crashes the stage, the second time it does not get there."""
    clean = bench.clients.next_export()
    export = replace(clean, lines=(*clean.lines[1:], mark_line(clean.lines[0])))
    replies = [await send_poison(bench, export) for _ in range(2)]
    bench.findings.crashes = bench.atlas.count_bugs()
    bench.findings.check(
        all(reply.status == "set_aside" for reply in replies), "Not told that it is set aside."
    )
    bench.findings.check(
        bench.findings.crashes == 1, f"It crashed flatten {bench.findings.crashes} times, not once."
    )
    return replies[0]


def mark_line(line: bytes) -> bytes:
    return b'{"says":' + FAULT_MARKER + b"," + line[1:]


async def measure_rate(bench: TrialEnvironment, exports: int) -> float:
    """Return the exports per second."""
    began = time.monotonic()
    async with bench.clients.keep_sending(exports):
        pass
    return exports / (time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class IsolationResult:
    """The seconds and groups until all poison exports were set aside, and how many were."""

    seconds: float
    groups: int
    aside: int


async def refuse_many(bench: TrialEnvironment) -> None:
    """Foundry refuses five exports of one user at their upload, with an undocumented error name."""
    refuse_user(bench, PathRefusal(contains="poison", name=UNKNOWN_REFUSAL))
    isolation = await isolate_among_others(bench)
    expect_isolated(bench, isolation)


async def refuse_many_at_commit(bench: TrialEnvironment) -> None:
    """They make every commit of their groups fail, and Foundry does not say which is at fault."""
    refuse_user(bench, PathRefusal(contains="poison", at="commit", name=UNKNOWN_REFUSAL))
    isolation = await isolate_among_others(bench)
    bench.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")


async def refuse_many_shared(bench: TrialEnvironment) -> None:
    """They make every shared file be refused that contains their rows."""
    bench.emulators.refused_rows = POISON_USER.encode()
    isolation = await isolate_among_others(bench)
    bench.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")


async def leave_many_unanswered(bench: TrialEnvironment) -> None:
    """Uploads of one user are always answered 500: none is set aside, and no other is delayed."""

    def fail(what: str, request: web.Request) -> web.Response | None:
        is_theirs = what == "upload" and "poison" in request.path
        return web.Response(status=500) if is_theirs else None

    await bench.atlas.start()
    async with keep_steady_flow(bench):
        await bench.wait_until_committed(5)
        bench.emulators.before = fail
        for _ in range(POISON_EXPORTS):
            await send_poison(bench, bench.clients.next_export(lambda _: POISON_USER))
        await bench.wait(600, least=8.0)
        aside = (await bench.fetch_totals()).set_aside
        bench.emulators.before = None
        answered = time.monotonic()
    expect_answered(bench)
    await bench.wait_until_drained()
    took = time.monotonic() - answered
    bench.findings.add_fact(f"all committed {took:.1f} s after uploads were answered again")
    aside = max(aside, (await bench.fetch_totals()).set_aside)
    bench.findings.check(aside == 0, f"{aside} set aside for want of an answer.")


def refuse_user(bench: TrialEnvironment, refusal: PathRefusal) -> None:
    bench.emulators.foundry.options.refusals = (refusal,)


def keep_steady_flow(bench: TrialEnvironment) -> AbstractAsyncContextManager[None]:
    exports = bench.scale.scale_number(1_000, least=60)
    return bench.clients.keep_sending(exports, phones=STEADY_PHONES, per_second=STEADY_RATE)


async def isolate_among_others(bench: TrialEnvironment) -> IsolationResult:
    """Send them among others until all are set aside; then fix the cause and replay them."""
    await bench.atlas.start()
    async with keep_steady_flow(bench):
        await bench.wait_until_committed(5)
        before, began = len(bench.emulators.list_transactions()), time.monotonic()
        for _ in range(POISON_EXPORTS):
            await send_poison(bench, bench.clients.next_export(lambda _: POISON_USER))
        with anyio.move_on_after(ASIDE_SECONDS):
            while (await bench.fetch_totals()).set_aside < POISON_EXPORTS:
                await anyio.sleep(0.05)
        seconds = time.monotonic() - began
        groups = bench.emulators.list_transactions()[before:]
        aside = (await bench.fetch_totals()).set_aside
    isolation = IsolationResult(seconds, len(groups), aside)
    failed = sum(each.status == "ABORTED" for each in groups)
    bench.findings.add_fact(
        f"{aside} set aside after {seconds:.1f} s and {len(groups)} groups, {failed} aborted"
    )
    bench.findings.check(seconds <= ASIDE_SECONDS, f"It took {seconds:.0f} s.")
    expect_answered(bench)
    await bench.wait_until_drained()
    await bench.emulators.clear_faults()
    await bench.replay()
    await expect_nothing_aside(bench)
    return isolation


def expect_isolated(bench: TrialEnvironment, isolation: IsolationResult) -> None:
    bench.findings.check(isolation.aside == POISON_EXPORTS, f"{isolation.aside} set aside.")
    bench.findings.check(isolation.groups <= ASIDE_GROUPS, f"It took {isolation.groups} groups.")


def expect_answered(bench: TrialEnvironment) -> None:
    """Expect a 200 for nearly all others, which did not ask for an early answer."""
    replies = [sent.reply for sent in bench.oracle.sent.values() if sent.reply is not None]
    committed = sum(reply.status == "committed" for reply in replies)
    share = committed / (len(replies) - POISON_EXPORTS)
    bench.findings.add_fact(f"{share:.1%} of the others answered 200")
    bench.findings.check(share >= ANSWERED_SHARE, f"Only {share:.1%} answered 200.")


async def crash_everywhere(bench: TrialEnvironment) -> None:
    """Each stage crashes repeatedly between good messages; then the bug is fixed."""
    exports = bench.scale.scale_number(5_000, least=100)
    await bench.atlas.start(Failpoint(EVERYWHERE, EVERY))
    async with bench.clients.keep_sending(exports, phones=32):
        pass
    crashes, answered = (
        bench.atlas.count_bugs(),
        bench.oracle.surprises.pop(ANSWERED_AFTER_A_CRASH, 0),
    )
    aside = (await bench.fetch_totals()).set_aside
    bench.findings.add_fact(f"{crashes} crashes, {answered} answered 500, {aside} set aside")
    bench.findings.check(crashes >= CRASHES_SHARE * exports, f"It crashed {crashes} times only.")
    bench.findings.crashes = crashes
    await bench.restart()
    await bench.replay()
    await expect_nothing_aside(bench)


async def expect_nothing_aside(bench: TrialEnvironment) -> None:
    await bench.wait_until_drained()
    aside = (await bench.fetch_totals()).set_aside
    bench.findings.check(aside == 0, f"{aside} set aside after the replay.")
