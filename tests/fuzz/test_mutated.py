"""Requests with something wrong in them, thousands, over sockets to a service in its own process.

It is the service of `just prove`, with stand-ins of Auth0 and Foundry: real tokens, a real
journal. FUZZ_SEED and the number of a request make it again; a request that is answered as none
may be is printed with both, ready to become a test.
"""

import asyncio
import base64
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from atlas.local.auth0 import Auth0Emulator, KeyRing
from tests.chaos.trial_environment import SCALES, TrialEnvironment, open_testbed
from tests.fuzz.mutations import Mutator, Request
from tests.fuzz.oddities import CANARY
from tests.fuzz.wires import Answer, Wire

IN_FULL = bool(os.environ.get("TESTS_IN_FULL"))
REQUESTS = 100_000 if IN_FULL else 3_000
AT_ONCE = 8
# By which it may grow from the middle to the end. After 1,500 it still warms up, by 5 MiB or so;
# what leaks half a KiB a request shows at full size.
MEMORY_SHARE_MAX = 0.05 if IN_FULL else 0.25
SHOWN, SHOWN_BYTES = 3, 8 * 1024
CHANGES = {
    "edge": {"rate_per_minute": 0, "commit_wait_seconds": 25.0},
    "foundry": {"commit_interval_seconds": 1.0},
}
COUNTS = "received", "ingested", "rejected"
ERROR = {"code", "message", "correlationId", "timestamp", "retryable"}


@dataclass
class Run:
    """What was answered, and what should not have been."""

    bench: TrialEnvironment
    mutator: Mutator
    seed: str
    statuses: Counter[int] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    async def send(self, numbers: Iterator[int]) -> None:
        wire = Wire(self.bench.clients.url)
        for number in numbers:
            request = self.mutator.request(number)
            try:
                answer = await wire.send(request)
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
                wire.close()
                self.judge(number, request, f"no answer: {error!r}")
                continue
            self.statuses[answer.status] += 1
            self.judge(number, request, *wrongs_of(request, answer))
        wire.close()

    async def send_all(self, numbers: range) -> float:
        """All of them; the MiB that the service holds when all is committed."""
        left = iter(numbers)
        await asyncio.gather(*(self.send(left) for _ in range(AT_ONCE)))
        await self.bench.wait_until_drained()
        return self.bench.atlas.measure_memory() or 0.0

    def judge(self, number: int, request: Request, *wrongs: str) -> None:
        """As what is printed leads to a test: nothing in it is of a person."""
        for wrong in wrongs:
            raw = request.raw()
            shown = (
                base64.b64encode(raw).decode() if len(raw) <= SHOWN_BYTES else f"{len(raw)} bytes"
            )
            self.wrongs.append(f"FUZZ_SEED={self.seed} number={number}: {wrong}\n{shown}")


def wrongs_of(request: Request, answer: Answer) -> Iterator[str]:
    """What the contract does not allow about an answer."""
    if answer.status >= 500:
        yield f"{answer.status}: {answer.body[:200]!r}"
    if "x-correlation-id" not in answer.headers:
        yield f"{answer.status} without a correlation id: {answer.body[:200]!r}"
    elif request.method != "HEAD":
        yield from wrongs_in(answer)


def wrongs_in(answer: Answer) -> Iterator[str]:
    if answer.headers["content-type"] not in {"application/json", "application/problem+json"}:
        yield f"it is {answer.headers['content-type']}"
    try:
        said = json.loads(answer.body, parse_int=str, parse_float=str)  # of any size, in a manifest
    except ValueError as error:
        yield f"no JSON: {error}: {answer.body[:200]!r}"
        return
    if answer.status >= 400 and not said.get("error", said).keys() >= ERROR:
        yield f"no error of the contract: {answer.body[:200]!r}"
    for each in results(said):
        each.pop("manifest", None)  # it is sent back as it came
        received, ingested, rejected = (int(each[f"records_{name}"]) for name in COUNTS)
        if received != ingested + rejected:
            yield f"it does not balance: {each}"
    if CANARY in f"{said}{answer.headers}":
        yield "something of a person's is in it"


def results(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "records_received" in said:
        yield said
    yield from said.get("upload_results", ())
    yield from said.get("receipts", ())


RESULT = b'{"records_received":3,"records_ingested":1,"records_rejected":1,"manifest":1e400}'
REFUSED = b'{"error":{"code":"X","message":"%s"}}' % CANARY.encode()


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        pytest.param(500, b"{}", "500: b'{}'", id="a bug"),
        pytest.param(200, b"{", "no JSON", id="cut off"),
        pytest.param(
            400, b'{"error":{"code":"X"}}', "no error of the contract", id="a short error"
        ),
        pytest.param(200, RESULT, "does not balance", id="a row too few"),
        pytest.param(400, REFUSED, "a person's", id="a canary"),
    ],
)
def test_what_no_answer_may_say_is_seen(status, body, told):
    request = Request("POST", "/", {})
    headers = {"x-correlation-id": "mine", "content-type": "application/json"}
    assert told in "".join(wrongs_of(request, Answer(status, headers, body)))


def test_a_seed_and_a_number_make_the_same_request_again():
    tenant = Auth0Emulator("https://atlas.test/", ring=KeyRing.generate())
    one, other = Mutator("seed", tenant), Mutator("seed", tenant)
    assert [one.request(n).raw() for n in range(9)] == [
        other.request(n).raw() for n in (*range(9),)
    ]


@pytest.mark.slow
async def test_whatever_is_wrong_with_a_request_it_is_answered_as_the_contract_says():
    seed = os.environ.get("FUZZ_SEED") or secrets.token_hex(4)
    print(f"FUZZ_SEED={seed}")  # noqa: T201  # pytest shows it beside a failure
    async with open_testbed(SCALES["ci"], seed, CHANGES) as bench:
        await bench.atlas.start()
        run = Run(bench, Mutator(seed, bench.emulators.tenant), seed)
        middle = await run.send_all(range(REQUESTS // 2))
        end = await run.send_all(range(REQUESTS // 2, REQUESTS))
        print(f"{dict(run.statuses)}, {middle:.0f} MiB, then {end:.0f} MiB")  # noqa: T201
        complaints, log = bench.emulators.foundry.log.violations, bench.atlas.read_log()
        bugs = bench.atlas.count_bugs()

    assert not run.wrongs, f"{len(run.wrongs)} wrong answers\n" + "\n".join(run.wrongs[:SHOWN])
    assert bugs == 0
    assert complaints == []
    assert CANARY not in log
    assert end <= middle * (1 + MEMORY_SHARE_MAX)
    assert {200, 202, 400, 401, 404, 413, 415, 422} <= run.statuses.keys()
