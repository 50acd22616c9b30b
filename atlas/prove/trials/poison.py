"""An export that a stage or Foundry cannot bear, and stages that crash at whatever comes."""

import time
from dataclasses import replace

from aiohttp import web

from atlas.prove.bench import Bench
from atlas.prove.bugs import BREAKS, EVERYWHERE, IN_FLATTEN
from atlas.prove.mines import Mine
from atlas.prove.oracle import Reply
from atlas.prove.phones import Export
from atlas.prove.subject import Broken

TRIES_MAX = 5
NEIGHBOURS_RATE = 0.95
EVERY = 20  # calls of a part
CRASHES_SHARE = 0.15  # of the exports
ANSWERED_AFTER_A_CRASH = "500 INTERNAL_ERROR"


async def one_in_a_thousand(bench: Bench) -> None:
    """One export breaks flatten, one is refused by Foundry for good, among many that are taken.

    Both are set aside and hold up nobody; once the reason is gone, they are sent again.
    """

    def refuse(what: str, request: web.Request) -> web.Response | None:
        is_poison = what == "upload" and "poison" in request.path
        return web.Response(status=413) if is_poison else None

    await bench.atlas.start(Mine(IN_FLATTEN, 1))
    neighbours = bench.scale.number(1_000, least=30)
    clean = await rate_of(bench, neighbours)
    bench.standins.before = refuse
    refused = await poisoned(bench, bench.phones.next(lambda _: "auth0|poison"))
    broken = await breaks_flatten(bench)
    beside = await rate_of(bench, neighbours)
    await bench.until_drained()
    tries = sum(call.status == 413 for call in bench.standins.calls)
    aside = (await bench.totals()).set_aside
    bench.findings.note(f"set aside after {tries} tries, neighbours at {beside / clean:.0%}")
    bench.findings.expect(aside == 2, f"{aside} set aside, not two.")
    bench.findings.expect(tries == TRIES_MAX, f"Tried {tries} times.")
    if bench.scale.is_full:
        bench.findings.expect(
            beside >= NEIGHBOURS_RATE * clean, f"Neighbours at {beside / clean:.0%}."
        )
    bench.standins.before = None
    await bench.restart()
    for reply in (refused, broken):
        await bench.replay(reply.receipt_id)
    await nothing_is_aside(bench)


async def poisoned(bench: Bench, export: Export) -> Reply:
    """It is safe, whatever becomes of it."""
    reply = await bench.phones.deliver(export, Prefer="respond-async")
    if reply is None:
        raise Broken("The poison was turned away.")
    return reply


async def breaks_flatten(bench: Bench) -> Reply:
    """Sent twice: the first time it crashes the stage, the second time it never gets there."""
    clean = bench.phones.next()
    export = replace(clean, lines=(*clean.lines[1:], marked(clean.lines[0])))
    replies = [await poisoned(bench, export) for _ in range(2)]
    bench.findings.crashes = bench.atlas.bugs()
    bench.findings.expect(
        all(reply.status == "set_aside" for reply in replies), "Not told that it is set aside."
    )
    bench.findings.expect(
        bench.findings.crashes == 1, f"It crashed flatten {bench.findings.crashes} times, not once."
    )
    return replies[0]


def marked(line: bytes) -> bytes:
    return b'{"says":' + BREAKS + b"," + line[1:]


async def rate_of(bench: Bench, exports: int) -> float:
    """Exports a second."""
    began = time.monotonic()
    async with bench.phones.sending(exports):
        pass
    return exports / (time.monotonic() - began)


async def crashes_everywhere(bench: Bench) -> None:
    """Each stage crashes again and again between messages that it can bear; then it is mended."""
    exports = bench.scale.number(5_000, least=100)
    await bench.atlas.start(Mine(EVERYWHERE, EVERY))
    async with bench.phones.sending(exports, phones=32):
        pass
    crashes, answered = bench.atlas.bugs(), bench.oracle.surprises.pop(ANSWERED_AFTER_A_CRASH, 0)
    aside = (await bench.totals()).set_aside
    bench.findings.note(f"{crashes} crashes, {answered} answered 500, {aside} set aside")
    bench.findings.expect(crashes >= CRASHES_SHARE * exports, f"It crashed {crashes} times only.")
    bench.findings.crashes = crashes
    await bench.restart()
    await bench.replay()
    await nothing_is_aside(bench)


async def nothing_is_aside(bench: Bench) -> None:
    await bench.until_drained()
    aside = (await bench.totals()).set_aside
    bench.findings.expect(aside == 0, f"{aside} set aside after the replay.")
