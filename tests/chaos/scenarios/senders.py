"""Phones do what phones do: the same again, all at once, and under each other's keys."""

from dataclasses import replace

import anyio
import msgspec

from tests.chaos.clients import Export
from tests.chaos.oracle import Reply
from tests.chaos.trial_environment import TrialEnvironment

AT_ONCE = 100
STREAM_LINES = 25_000  # 12 MiB: two parts and a half


class Part(msgspec.Struct):
    replayed: bool


class Streamed(msgspec.Struct):
    """What is read of the answer to a stream."""

    upload_results: tuple[Part, ...] = ()


async def send_twins(bench: TrialEnvironment) -> None:
    """One export 100 times at once, and after a restart; one key for two bodies, for two users; a
    stream that is cut off.
    """
    await bench.atlas.start()
    times = bench.scale.scale_number(10, least=2)
    for _ in range(times):
        export = bench.clients.next_export()
        replies = await send_at_once(bench, export)
        await bench.restart()
        again = await bench.clients.deliver(export)
        ids = {reply.receipt_id for reply in replies}
        firsts = sum(not reply.replayed for reply in replies)
        expect = bench.findings.check
        expect(len(replies) == AT_ONCE, f"{len(replies)} of {AT_ONCE} twins were answered.")
        expect(len(ids) == 1, f"{len(ids)} receipts for one export.")
        expect(firsts == 1, f"{firsts} of {AT_ONCE} twins were told to be the first.")
        expect(again is not None and again.receipt_id in ids, "Another receipt after a restart.")
        expect(again is not None and again.replayed, "Not replayed after a restart.")
        await reuse_key(bench)
    await cut_off_stream(bench)
    bench.findings.add_fact(f"{times} times {AT_ONCE} at once")


async def cut_off_stream(bench: TrialEnvironment) -> None:
    """A stream of which four fifths arrive is sent again: what was full is passed over."""
    name = f"stream-{bench.rng.random()}"
    export = Export.generate(name, "auth0|years", bench.rng, lines=STREAM_LINES)
    lost = await bench.clients.stream(export, share=0.8)
    answer = await bench.clients.stream(export)
    while answer.status in {0, 503}:  # as a phone does
        answer = await bench.clients.stream(export)
    whole = msgspec.json.decode(answer.body, type=Streamed)
    parts = [part.replayed for part in whole.upload_results]
    summary = f"{sum(parts)} of {len(parts)} parts stood, answered {answer.status}"
    bench.findings.add_fact(f"a stream cut off: {summary}")
    bench.findings.check(lost.status == 0, f"A stream that was lost was answered {lost.status}.")
    bench.findings.check(any(parts), "Of a stream that was cut off, nothing was kept.")


async def send_at_once(bench: TrialEnvironment, export: Export) -> list[Reply]:
    replies: list[Reply] = []

    async def send() -> None:
        reply = await bench.clients.deliver(export)
        if reply is not None:
            replies.append(reply)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(send)
    return replies


async def reuse_key(bench: TrialEnvironment) -> None:
    """The same key: another body is 422, another user is a stranger with an export of his own."""
    clients, expect = bench.clients, bench.findings.check
    key = {"Idempotency_Key": f"key-{bench.rng.random()}"}
    first_export, other = clients.next_export(), clients.next_export()
    first = await clients.deliver(first_export, **key)
    reused = await clients.post(replace(other, sub=first_export.sub), **key)
    bench.oracle.sent.pop(other.name)  # refused for good: no row of it may stand anywhere
    other_reply = await clients.deliver(
        clients.next_export(lambda _: f"{first_export.sub} not he"), **key
    )
    expect(reused.refusal == "422 IDEMPOTENCY_KEY_REUSED", f"Another body got {reused.refusal}.")
    expect(
        first is not None
        and other_reply is not None
        and first.receipt_id != other_reply.receipt_id,
        "A user got the receipt of another.",
    )
    expect(other_reply is not None and not other_reply.replayed, "A user's key was another's, too.")
