"""Thousands of mutated requests over sockets, to a service in a separate process.

It is the service of `just prove`, with the emulators of Auth0 and Foundry: real tokens, a real
journal. FUZZ_SEED and the number of a request reproduce it; a request with a wrong answer is
printed with both, ready to become a test.
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
from tests.fuzz.connection import Answer, Connection
from tests.fuzz.mutations import Mutator, Request
from tests.fuzz.oddities import CANARY

IN_FULL = bool(os.environ.get("TESTS_IN_FULL"))
REQUESTS = 100_000 if IN_FULL else 3_000
AT_ONCE = 8
# Allowed growth from the middle to the end. After 1,500 requests it still grows by about 5 MiB;
# a leak of half a KiB per request shows at full size.
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
    """Statuses of all answers, and the wrong ones."""

    testbed: TrialEnvironment
    mutator: Mutator
    seed: str
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def send(self, numbers: Iterator[int]) -> None:
        connection = Connection(self.testbed.clients.url)
        for number in numbers:
            request = self.mutator.build_request(number)
            try:
                answer = await connection.send(request)
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
                connection.close()
                self.record_failures(number, request, f"no answer: {error!r}")
                continue
            self.statuses[answer.status] += 1
            self.record_failures(number, request, *find_failures(request, answer))
        connection.close()

    async def send_all(self, numbers: range) -> float:
        """Send all requests; return the service's memory in MiB after everything is committed."""
        left = iter(numbers)
        await asyncio.gather(*(self.send(left) for _ in range(AT_ONCE)))
        await self.testbed.wait_until_drained()
        return self.testbed.atlas.measure_memory() or 0.0

    def record_failures(self, number: int, request: Request, *failures: str) -> None:
        """Record wrong answers with the request, which contains no personal data."""
        for failure in failures:
            raw = request.encode()
            text = (
                base64.b64encode(raw).decode() if len(raw) <= SHOWN_BYTES else f"{len(raw)} bytes"
            )
            self.failures.append(f"FUZZ_SEED={self.seed} number={number}: {failure}\n{text}")


def find_failures(request: Request, answer: Answer) -> Iterator[str]:
    """Yield every violation of the contract by an answer."""
    if answer.status >= 500:
        yield f"{answer.status}: {answer.body[:200]!r}"
    if "x-correlation-id" not in answer.headers:
        yield f"{answer.status} without a correlation id: {answer.body[:200]!r}"
    elif request.method != "HEAD":
        yield from check_body(answer)


def check_body(answer: Answer) -> Iterator[str]:
    if answer.headers["content-type"] not in {"application/json", "application/problem+json"}:
        yield f"it is {answer.headers['content-type']}"
    try:
        body = json.loads(
            answer.body, parse_int=str, parse_float=str
        )  # a manifest may have numbers of any size
    except ValueError as error:
        yield f"no JSON: {error}: {answer.body[:200]!r}"
        return
    if answer.status >= 400 and not body.get("error", body).keys() >= ERROR:
        yield f"no error of the contract: {answer.body[:200]!r}"
    for each in find_results(body):
        each.pop("manifest", None)  # repeated unchanged
        received, ingested, rejected = (int(each[f"records_{name}"]) for name in COUNTS)
        if received != ingested + rejected:
            yield f"it does not balance: {each}"
    if CANARY in f"{body}{answer.headers}":
        yield "it contains a person's data"


def find_results(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "records_received" in body:
        yield body
    yield from body.get("upload_results", ())
    yield from body.get("receipts", ())


RESULT = b'{"records_received":3,"records_ingested":1,"records_rejected":1,"manifest":1e400}'
REFUSED = b'{"error":{"code":"X","message":"%s"}}' % CANARY.encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
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
def test_what_no_answer_may_say_is_seen(status, body, expected):
    request = Request("POST", "/", {})
    headers = {"x-correlation-id": "mine", "content-type": "application/json"}
    assert expected in "".join(find_failures(request, Answer(status, headers, body)))


def test_a_seed_and_a_number_make_the_same_request_again():
    tenant = Auth0Emulator("https://atlas.test/", ring=KeyRing.generate())
    one, other = Mutator("seed", tenant), Mutator("seed", tenant)
    assert [one.build_request(n).encode() for n in range(9)] == [
        other.build_request(n).encode() for n in (*range(9),)
    ]


@pytest.mark.slow
async def test_whatever_is_wrong_with_a_request_it_is_answered_as_the_contract_says():
    seed = os.environ.get("FUZZ_SEED") or secrets.token_hex(4)
    print(f"FUZZ_SEED={seed}")  # noqa: T201  # pytest shows it with a failure
    async with open_testbed(SCALES["ci"], seed, CHANGES) as testbed:
        await testbed.atlas.start()
        run = Run(testbed, Mutator(seed, testbed.emulators.tenant), seed)
        middle = await run.send_all(range(REQUESTS // 2))
        end = await run.send_all(range(REQUESTS // 2, REQUESTS))
        print(f"{dict(run.statuses)}, {middle:.0f} MiB, then {end:.0f} MiB")  # noqa: T201
        complaints, log = testbed.emulators.foundry.log.violations, testbed.atlas.read_log()
        bugs = testbed.atlas.count_bugs()

    assert not run.failures, f"{len(run.failures)} wrong answers\n" + "\n".join(
        run.failures[:SHOWN]
    )
    assert bugs == 0
    assert complaints == []
    assert CANARY not in log
    assert end <= middle * (1 + MEMORY_SHARE_MAX)
    assert {200, 202, 400, 401, 404, 413, 415, 422} <= run.statuses.keys()
