"""Replicas are replaced one after another, and asked for tasks on the branch that one leads."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import anyio
import msgspec

from atlas.local.balancer import run_balancer
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from tests.chaos.clients import Answer, Export
from tests.chaos.oracle import BRANCH, derive_uuid, read_uuids
from tests.chaos.replicas import LOST, TAKEN
from tests.chaos.service_process import Broken, ServiceProcess
from tests.chaos.trial_environment import TrialEnvironment

HAND_OVER_SECONDS = 0.2
GAP_SECONDS, NO_ANSWER_SECONDS = 1.5, 1.0
END_SECONDS = 10.0
ERRAND_SECONDS = 40.0
PHONES = 256
FULL_RATE = 100.0  # balancer, phones and Foundry share one process
ERASED_USER = "auth0|erased"
ERASING_PHONES, BEFORE_EXPORTS = 6, 10


async def roll(testbed: TrialEnvironment) -> None:
    """Replace all replicas one after another, again and again, behind a balancer."""
    rounds = testbed.scale.scale_number(20, least=2)
    a_second = FULL_RATE if testbed.scale.is_full else 60.0
    slowest = 0.0
    await testbed.replicas.start()
    async with run_balancer([each.address for each in testbed.members]) as url:
        testbed.clients.url, testbed.clients.replicas = url, ()
        async with testbed.clients.keep_sending(PHONES, phones=PHONES, per_second=a_second):
            await anyio.sleep(PHONES / a_second)
            began = time.monotonic()
            for _ in range(rounds):
                for member in testbed.members:
                    code, seconds = await member.end()
                    slowest = max(slowest, seconds)
                    testbed.findings.check(code == 0, f"SIGTERM ended it with {code}.")
                    await member.start()
                    await anyio.sleep(0.5)
            ended = time.monotonic()
        await testbed.wait_until_drained()
        testbed.clients.replicas = [each.address for each in testbed.members]
    hand_overs = list(measure_hand_overs(testbed.members))
    until_answer = measure_gap(testbed, {200, 202}, began, ended)
    until_commit = measure_gap(testbed, {200}, began, ended)
    testbed.findings.add_fact(
        f"{rounds} rounds, {len(hand_overs)} hand-overs in {max(hand_overs):.2f} s at most, "
        f"gone in {slowest:.1f} s; {until_commit:.2f} s without a 200 at most, "
        f"{until_answer:.2f} s without any answer"
    )
    refused = dict(testbed.clients.refused)
    expect, allow = testbed.findings.check, testbed.scale.allow_seconds
    expect(not refused, f"Answers other than 200 and 202: {refused}.")
    slow = max(hand_overs)
    expect(slow <= allow(HAND_OVER_SECONDS), f"A hand-over took {slow:.2f} s.")
    expect(slowest <= END_SECONDS, f"SIGTERM took {slowest:.1f} s.")
    expect(until_answer <= allow(NO_ANSWER_SECONDS), f"No answer for {until_answer:.1f} s.")
    expect(until_commit <= allow(GAP_SECONDS), f"No 200 for {until_commit:.1f} s.")


def measure_hand_overs(members: list[ServiceProcess]) -> Iterator[float]:
    """Yield the seconds between the end of each term that was given back and the next one."""
    lost, taken = dict[int, float](), dict[int, float]()
    for member in members:
        for event in member.list_events(LOST):
            if event["reason"] == "released":
                lost[event["epoch"]] = parse_time(event["timestamp"])
        for event in member.list_events(TAKEN):
            taken[event["epoch"]] = parse_time(event["timestamp"])
    for epoch, at in lost.items():
        if epoch + 1 in taken:
            yield max(0.0, taken[epoch + 1] - at)


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measure_gap(testbed: TrialEnvironment, statuses: set[int], began: float, ended: float) -> float:
    """Return the longest time between two answers with one of these statuses."""
    times = [at for at, status in testbed.clients.answered if status in statuses]
    inside = [began, *(at for at in times if began <= at <= ended), ended]
    return max(later - earlier for earlier, later in pairwise(inside))


async def ask_follower(testbed: TrialEnvironment) -> None:
    """Ask a replica that does not lead for a diagnosis, which probes the branch, under load."""
    times, slowest = testbed.scale.scale_number(10, least=2), 0.0
    await testbed.replicas.start()
    async with testbed.clients.keep_sending(
        testbed.scale.scale_number(2_000, least=100), phones=64, per_second=40
    ):
        for _ in range(times):
            (follower, *_) = await testbed.replicas.find_followers()
            began = time.monotonic()
            steps = (await ask(testbed, follower, "diagnose", {}))["steps"]
            slowest = max(slowest, time.monotonic() - began)
            bad = [
                f"{each['name']}: {each['reason']}" for each in steps if each["verdict"] == "fail"
            ]
            testbed.findings.check(not bad, f"A follower's diagnosis failed: {'; '.join(bad)}")
            is_leader = await testbed.replicas.find_leader() is follower
            testbed.findings.check(is_leader, "The branch was probed by who does not lead.")
            await testbed.wait(5.0)
    refused = dict(testbed.clients.refused)
    testbed.findings.add_fact(f"{times} diagnoses by followers in {slowest:.1f} s at most")
    testbed.findings.check(slowest <= ERRAND_SECONDS, f"A diagnosis took {slowest:.0f} s.")
    testbed.findings.check(not refused, f"Answers other than 200 and 202: {refused}.")


async def ask(
    testbed: TrialEnvironment, member: ServiceProcess, path: str, body: dict[str, object]
) -> dict[str, list[dict[str, str]]]:
    """Post to the operator listener. Raises Broken if that is refused."""
    url, content = f"{member.operator}/{path}", msgspec.json.encode(body)
    headers = {"Content-Type": "application/json"}
    async with testbed.clients.session.post(url, data=content, headers=headers) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise Broken(f"/{path} was answered {answer.status}: {text.decode()}")
        return msgspec.json.decode(text, type=dict[str, object])  # type: ignore[return-value]


@dataclass(slots=True)
class Erasing:
    """The exports of the person who is erased, and the last answer to each by its name."""

    before: list[Export] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    notified_at: set[str] = field(default_factory=set)  # replicas that answered 410
    is_over: bool = False


async def erase_at_follower(testbed: TrialEnvironment) -> None:
    """Erase a person at a replica that does not lead, while their phones send to all replicas."""
    await testbed.replicas.start()
    (follower, *_) = await testbed.replicas.find_followers()
    erasing = Erasing()
    erasing.before = [
        testbed.clients.next_export(lambda _: ERASED_USER) for _ in range(BEFORE_EXPORTS)
    ]
    for export in erasing.before:
        await testbed.clients.deliver(export)
    await testbed.wait_until_drained()
    testbed.emulators.set_faults(Fault(call="commit", kind="latency", seconds=0.7, count=0))
    async with testbed.clients.keep_sending(40, per_second=10), anyio.create_task_group() as tasks:
        for number in range(ERASING_PHONES):
            member = testbed.members[number % len(testbed.members)]
            tasks.start_soon(send_while_erasing, testbed, erasing, member)
        tasks.start_soon(send_twins_of_erased, testbed, erasing)
        await anyio.sleep(testbed.rng.uniform(0.5, 1.5))
        began = time.monotonic()
        receipt = await ask(testbed, follower, "erasures", {"user": ERASED_USER})
        took = time.monotonic() - began
        erasing.is_over = True
    await testbed.wait_until_drained()
    check_erased(testbed, erasing)
    testbed.findings.add_fact(f"erased in {took:.1f} s, {receipt['files']} files")
    testbed.findings.check(took <= ERRAND_SECONDS, f"An erasure took {took:.0f} s.")


async def send_while_erasing(
    testbed: TrialEnvironment, erasing: Erasing, member: ServiceProcess
) -> None:
    while not erasing.is_over:
        export = testbed.clients.next_export(lambda _: ERASED_USER)
        testbed.oracle.given_up.add(export.name)
        answer = await testbed.clients.post(export, member.address)
        erasing.answers[export.name] = answer
        if answer.status == 410:
            erasing.notified_at.add(member.address)


async def send_twins_of_erased(testbed: TrialEnvironment, erasing: Erasing) -> None:
    """Send again, at all replicas, exports that are being erased."""
    while not erasing.is_over:
        export = testbed.rng.choice(erasing.before)
        erasing.answers[export.name] = await testbed.clients.post(export)
        await anyio.sleep(0.05)


def check_erased(testbed: TrialEnvironment, erasing: Erasing) -> None:
    """Check that each export is there as a whole or not at all, and not if it was answered 410.

    The oracle then forgets the promises about them: an erasure ends a promise.
    """
    foundry, answers = testbed.emulators.foundry, erasing.answers
    branch = foundry.branches.get_branch(DATASET, BRANCH)
    rows = {uuid for _, uuid in read_uuids(foundry, branch)}
    names = {export.name for export in erasing.before} | set(answers)
    for name in names:
        sent = testbed.oracle.sent[name]
        there = sum(derive_uuid(name, line) in rows for line in range(sent.lines))
        is_whole = there in {0, sent.lines}
        testbed.findings.check(is_whole, f"{there} of {sent.lines} lines of {name} are there.")
        is_gone = name in answers and answers[name].status == 410
        testbed.findings.check(not (is_gone and there), f"{name} was answered 410 and is there.")
        sent.reply = None
        testbed.oracle.given_up.add(name)
    unsent = [export.name for export in erasing.before if export.name not in answers]
    left = sum(derive_uuid(name, 0) in rows for name in unsent)
    testbed.findings.check(not left, f"{left} exports of before the erasure are still there.")
    statuses = [answer.status for answer in answers.values()]
    erased = statuses.count(410)
    testbed.findings.add_fact(f"{erased} of {len(statuses)} waiting phones were answered 410")
    notified = len(erasing.notified_at)
    is_everywhere = notified == len(testbed.members)
    testbed.findings.check(is_everywhere, f"Phones of {notified} replicas were answered 410.")
    odd = {answer.refusal for answer in answers.values() if answer.status not in {200, 202, 410}}
    testbed.findings.check(not odd, f"Phones of the person were answered {sorted(odd)}.")
