"""Client behaviour: duplicates, many at once, and reused idempotency keys."""

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
    """The fields that matter in the answer to a stream."""

    upload_results: tuple[Part, ...] = ()


async def send_twins(testbed: TrialEnvironment) -> None:
    """Send one export 100 times at once, and after a restart; use one key for two bodies and for
    two users; cut a stream off.
    """
    await testbed.atlas.start()
    times = testbed.scale.scale_number(10, least=2)
    for _ in range(times):
        export = testbed.clients.next_export()
        replies = await send_at_once(testbed, export)
        await testbed.restart()
        again = await testbed.clients.deliver(export)
        ids = {reply.receipt_id for reply in replies}
        firsts = sum(not reply.replayed for reply in replies)
        expect = testbed.findings.check
        expect(len(replies) == AT_ONCE, f"{len(replies)} of {AT_ONCE} twins were answered.")
        expect(len(ids) == 1, f"{len(ids)} receipts for one export.")
        expect(firsts == 1, f"{firsts} of {AT_ONCE} twins were reported as the first.")
        expect(again is not None and again.receipt_id in ids, "Another receipt after a restart.")
        expect(again is not None and again.replayed, "Not replayed after a restart.")
        await reuse_key(testbed)
    await cut_off_stream(testbed)
    testbed.findings.add_fact(f"{times} times {AT_ONCE} at once")


async def cut_off_stream(testbed: TrialEnvironment) -> None:
    """Send a stream again of which four fifths arrived: the complete parts are skipped."""
    name = f"stream-{testbed.rng.random()}"
    export = Export.generate(name, "auth0|years", testbed.rng, lines=STREAM_LINES)
    lost = await testbed.clients.stream(export, share=0.8)
    answer = await testbed.clients.stream(export)
    while answer.status in {0, 503}:  # as a real client does
        answer = await testbed.clients.stream(export)
    whole = msgspec.json.decode(answer.body, type=Streamed)
    parts = [part.replayed for part in whole.upload_results]
    summary = f"{sum(parts)} of {len(parts)} parts were stored, answered {answer.status}"
    testbed.findings.add_fact(f"a stream cut off: {summary}")
    testbed.findings.check(lost.status == 0, f"A stream that was lost was answered {lost.status}.")
    testbed.findings.check(any(parts), "Nothing was stored of a stream that was cut off.")


async def send_at_once(testbed: TrialEnvironment, export: Export) -> list[Reply]:
    replies: list[Reply] = []

    async def send() -> None:
        reply = await testbed.clients.deliver(export)
        if reply is not None:
            replies.append(reply)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(send)
    return replies


async def reuse_key(testbed: TrialEnvironment) -> None:
    """Reuse a key: another body is answered 422, and another user has an export of their own."""
    clients, expect = testbed.clients, testbed.findings.check
    key = {"Idempotency_Key": f"key-{testbed.rng.random()}"}
    first_export, other = clients.next_export(), clients.next_export()
    first = await clients.deliver(first_export, **key)
    reused = await clients.post(replace(other, sub=first_export.sub), **key)
    testbed.oracle.sent.pop(other.name)  # refused for good: none of its rows may exist
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
