"""Phones do what phones do: the same again, all at once, and under each other's keys."""

from dataclasses import replace

import anyio
import msgspec

from tests.chaos.bench import Bench
from tests.chaos.oracle import Reply
from tests.chaos.phones import Export

AT_ONCE = 100
STREAM_LINES = 25_000  # 12 MiB: two parts and a half


class Part(msgspec.Struct):
    replayed: bool


class Streamed(msgspec.Struct):
    """What is read of the answer to a stream."""

    upload_results: tuple[Part, ...] = ()


async def twins(bench: Bench) -> None:
    """One export 100 times at once, and after a restart; one key for two bodies, for two users; a
    stream that is cut off.
    """
    await bench.atlas.start()
    times = bench.scale.number(10, least=2)
    for _ in range(times):
        export = bench.phones.next()
        replies = await at_once(bench, export)
        await bench.restart()
        again = await bench.phones.deliver(export)
        ids = {reply.receipt_id for reply in replies}
        firsts = sum(not reply.replayed for reply in replies)
        expect = bench.findings.expect
        expect(len(replies) == AT_ONCE, f"{len(replies)} of {AT_ONCE} twins were answered.")
        expect(len(ids) == 1, f"{len(ids)} receipts for one export.")
        expect(firsts == 1, f"{firsts} of {AT_ONCE} twins were told to be the first.")
        expect(again is not None and again.receipt_id in ids, "Another receipt after a restart.")
        expect(again is not None and again.replayed, "Not replayed after a restart.")
        await one_key(bench)
    await cut_off(bench)
    bench.findings.note(f"{times} times {AT_ONCE} at once")


async def cut_off(bench: Bench) -> None:
    """A stream of which four fifths arrive is sent again: what was full is passed over."""
    name = f"stream-{bench.chance.random()}"
    export = Export.made(name, "auth0|years", bench.chance, lines=STREAM_LINES)
    lost = await bench.phones.stream(export, share=0.8)
    answer = await bench.phones.stream(export)
    while answer.status in {0, 503}:  # as a phone does
        answer = await bench.phones.stream(export)
    whole = msgspec.json.decode(answer.body, type=Streamed)
    parts = [part.replayed for part in whole.upload_results]
    told = f"{sum(parts)} of {len(parts)} parts stood, answered {answer.status}"
    bench.findings.note(f"a stream cut off: {told}")
    bench.findings.expect(lost.status == 0, f"A stream that was lost was answered {lost.status}.")
    bench.findings.expect(any(parts), "Of a stream that was cut off, nothing was kept.")


async def at_once(bench: Bench, export: Export) -> list[Reply]:
    replies: list[Reply] = []

    async def send() -> None:
        reply = await bench.phones.deliver(export)
        if reply is not None:
            replies.append(reply)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(send)
    return replies


async def one_key(bench: Bench) -> None:
    """The same key: another body is 422, another user is a stranger with an export of his own."""
    phones, expect = bench.phones, bench.findings.expect
    key = {"Idempotency_Key": f"key-{bench.chance.random()}"}
    mine, other = phones.next(), phones.next()
    first = await phones.deliver(mine, **key)
    reused = await phones.post(replace(other, sub=mine.sub), **key)
    bench.oracle.sent.pop(other.name)  # refused for good: no row of it may stand anywhere
    theirs = await phones.deliver(phones.next(lambda _: f"{mine.sub} not he"), **key)
    expect(reused.refusal == "422 IDEMPOTENCY_KEY_REUSED", f"Another body got {reused.refusal}.")
    expect(
        first is not None and theirs is not None and first.receipt_id != theirs.receipt_id,
        "A user got the receipt of another.",
    )
    expect(theirs is not None and not theirs.replayed, "A user's key was another's, too.")
