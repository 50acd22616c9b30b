"""Clients send the same exports to several replicas at once."""

import os
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import anyio
import msgspec

from atlas.local.foundry.state import DATASET
from tests.chaos.clients import Answer, Export
from tests.chaos.failpoints import Failpoint
from tests.chaos.injected_faults import IN_FLATTEN
from tests.chaos.load_generator import REFUSALS, LoadStats, compute_quantile
from tests.chaos.load_process import LoadResult, run_load_worker
from tests.chaos.oracle import BRANCH
from tests.chaos.scenarios.load import (
    DOUBLED,
    FLOODING,
    QUIET,
    QUIET_SECONDS,
    RATE_PER_MINUTE,
    choose_quiet_user,
    format_ms,
    open_generator,
)
from tests.chaos.scenarios.poison import expect_nothing_aside, mark_line, send_poison
from tests.chaos.scenarios.senders import AT_ONCE, STREAM_LINES, Streamed, send_at_once
from tests.chaos.trial_environment import TrialEnvironment

WON, REUSED = {200, 202}, "422 IDEMPOTENCY_KEY_REUSED"
SHORT_LINES = 2
PROCESSORS_MIN = 6  # two replicas, two floods, the database, and this process


async def send_twins(testbed: TrialEnvironment) -> None:
    """Send one export 100 times at once to all replicas, one key with two bodies at the same
    instant, and one stream twice at once.
    """
    times, expect = testbed.scale.scale_number(20, least=3), testbed.findings.check
    await testbed.replicas.start()
    for _ in range(times):
        export = testbed.clients.next_export()
        replies = await send_at_once(testbed, export)
        ids = {reply.receipt_id for reply in replies}
        firsts = sum(not reply.replayed for reply in replies)
        expect(len(replies) == AT_ONCE, f"{len(replies)} of {AT_ONCE} twins were answered.")
        expect(len(ids) == 1, f"{len(ids)} receipts for one export.")
        expect(firsts == 1, f"{firsts} of {AT_ONCE} twins were reported as the first.")
        for member in testbed.members:
            again = (await testbed.clients.post(export, member.address)).reply
            is_known = again is not None and again.receipt_id in ids and again.replayed
            expect(is_known, "A replica does not know what was sent to all.")
        await race_for_key(testbed)
    await stream_twice(testbed)
    testbed.findings.add_fact(f"{times} times {AT_ONCE} at once, and two bodies with one key")


async def race_for_key(testbed: TrialEnvironment) -> None:
    """Send two bodies with one key to two replicas at the same instant: one of them wins."""
    key = {"Idempotency_Key": f"key-{testbed.rng.random()}"}
    first = testbed.clients.next_export()
    bodies = [first, replace(testbed.clients.next_export(), sub=first.sub)]
    answers = dict[str, Answer]()

    async def send(export: Export, url: str) -> None:
        answers[export.name] = await testbed.clients.post(export, url, **key)

    async with anyio.create_task_group() as tasks:
        for export, member in zip(bodies, testbed.members, strict=False):
            tasks.start_soon(send, export, member.address)
    won = [name for name, answer in answers.items() if answer.status in WON]
    lost = [name for name, answer in answers.items() if answer.status not in WON]
    testbed.findings.check(len(won) == 1, f"{len(won)} of two bodies with one key were accepted.")
    for name in lost:
        testbed.oracle.sent.pop(name)  # refused for good: none of its rows may exist
        refusal = answers[name].refusal
        testbed.findings.check(refusal == REUSED, f"The body that lost got {refusal}.")


async def stream_twice(testbed: TrialEnvironment) -> None:
    """Stream one body to all replicas at once: each part is stored once."""
    name = f"stream-{testbed.rng.random()}"
    export = Export.generate(name, "auth0|years", testbed.rng, lines=STREAM_LINES)
    parts = list[bool]()

    async def stream() -> None:
        answer = await testbed.clients.stream(export)
        while answer.status in {0, 503}:  # as a real client does
            answer = await testbed.clients.stream(export)
        answered = msgspec.json.decode(answer.body, type=Streamed).upload_results
        parts.extend(part.replayed for part in answered)

    async with anyio.create_task_group() as tasks:
        for _ in testbed.members:
            tasks.start_soon(stream)
    first, replayed = parts.count(False), parts.count(True)
    testbed.findings.add_fact(f"one stream twice: {first} parts stored, {replayed} replayed")
    # a stream that is refused on the way finds its own parts when it is sent again
    testbed.findings.check(first <= replayed, f"{first} parts stored, {replayed} replayed.")


async def send_in_one_millisecond(testbed: TrialEnvironment) -> None:
    """One user sends 1,000 exports to all replicas while their clocks stand still."""
    await testbed.replicas.start()
    count, now = testbed.scale.scale_number(1_000, least=200), datetime.now(UTC)
    for member in testbed.members:
        member.stop_clock(now)
    began, rng = time.monotonic(), testbed.rng
    exports = [
        Export.generate(f"instant-{number}", "auth0|instant", rng, SHORT_LINES)
        for number in range(count)
    ]
    async with anyio.create_task_group() as tasks:
        for export in exports:
            tasks.start_soon(testbed.clients.deliver, export)
    took = time.monotonic() - began
    for member in testbed.members:
        member.shift_clock(0)
    await testbed.wait_until_drained()
    view = testbed.emulators.foundry.branches.get_branch(DATASET, BRANCH).view
    paths = sum("instant" in path for path in view)
    testbed.findings.add_fact(f"{count} exports of one instant: {paths} paths, in {took:.1f} s")
    testbed.findings.check(paths == count, f"{paths} paths for {count} exports.")


async def poison_each(testbed: TrialEnvironment) -> None:
    """An export crashes a stage of every replica at most once; any replica replays it."""
    times, crashed = testbed.scale.scale_number(10, least=1), 0
    for member in testbed.members:
        await member.start(Failpoint(IN_FLATTEN, 1))
    for _ in range(times):
        clean = testbed.clients.next_export()
        export = replace(clean, lines=(*clean.lines[1:], mark_line(clean.lines[0])))
        before = [member.count_bugs() for member in testbed.members]
        for _ in range(4):
            reply = await send_poison(testbed, export)
            is_aside = reply.status == "set_aside"
            testbed.findings.check(is_aside, f"The poison was answered {reply.status}.")
        crashes = [member.count_bugs() for member in testbed.members]
        each = [now - then for now, then in zip(crashes, before, strict=True)]
        crashed += sum(each)
        testbed.findings.check(max(each) <= 1, f"One export crashed the replicas {each} times.")
    testbed.findings.crashes = crashed
    async with testbed.clients.keep_sending(testbed.scale.scale_number(500, least=20)):
        pass
    for member in testbed.members:
        await member.kill()
    await testbed.replicas.start()
    (follower, *_) = await testbed.replicas.find_followers()
    aside = (await testbed.fetch_totals()).set_aside
    testbed.findings.check(aside == times, f"{aside} set aside, not {times}.")
    is_replayed = await follower.replay(testbed.clients.session, None)
    testbed.findings.check(is_replayed, "A replica that does not lead does not replay.")
    await expect_nothing_aside(testbed)
    testbed.findings.add_fact(f"{times} crashed {crashed} times in all, replayed by a follower")


async def flood_all(testbed: TrialEnvironment) -> None:
    """One user floods all replicas: the limit holds for all of them together."""
    await testbed.replicas.start()
    seconds, a_second = testbed.scale.scale_seconds(60, least=8), QUIET / QUIET_SECONDS
    token = testbed.emulators.issue_token("auth0|flood")
    floods, concurrent = list[LoadResult](), list[LoadStats]()
    connections = FLOODING // len(testbed.members)
    async with open_generator(testbed, "quiet", large_every=0) as generator:
        generator.sub = choose_quiet_user
        await generator.run_open_loop(a_second, QUIET_SECONDS)
        baseline = await generator.run_open_loop(a_second, seconds)

        async def flood(number: int, url: str) -> None:
            stats = await run_load_worker(url, token, f"flood-{number}", connections, seconds)
            stats.record_in(testbed.oracle)
            floods.append(stats)

        async def run_generator() -> None:
            concurrent.append(await generator.run_open_loop(a_second, seconds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_generator)
            for number, member in enumerate(testbed.members):
                tasks.start_soon(flood, number, member.address)
    before, during = (
        compute_quantile(stats.list_latencies(), 0.99) for stats in (baseline, *concurrent)
    )
    check_flood(testbed, floods, seconds)
    testbed.findings.add_fact(f"p99 of others {format_ms(before)}, then {format_ms(during)}")
    refused = len(baseline.refused) + len(concurrent[0].refused)
    testbed.findings.check(not refused, f"{refused} exports of the other users were refused.")
    # on fewer, the floods themselves and the database take them from the replicas
    if testbed.scale.is_full and (os.cpu_count() or 1) >= PROCESSORS_MIN:
        testbed.findings.check(
            during <= DOUBLED * before, f"p99 of the others rose to {format_ms(during)}."
        )


def check_flood(testbed: TrialEnvironment, floods: list[LoadResult], seconds: float) -> None:
    statuses = sum((Counter(flood.statuses) for flood in floods), Counter[int]())
    taken, sent = statuses[200] + statuses[202], sum(statuses.values())
    others = len(floods) - 1  # each may allow a burst before it knows of the others
    allowed = RATE_PER_MINUTE * (1 + seconds / 60)
    testbed.findings.add_fact(
        f"{taken} of {sent} accepted of a flood in {seconds:.0f} s, {allowed:.0f} by the limit"
    )
    testbed.findings.check(
        taken <= allowed + others * RATE_PER_MINUTE,
        f"{taken} accepted, the limit allows {allowed:.0f}.",
    )
    testbed.findings.check(statuses[429] > 0, "The flood was never refused.")
    testbed.findings.check(not set(statuses) - WON - REFUSALS, f"The flood got {statuses}.")
