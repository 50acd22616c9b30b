"""Who comes to the soak, and what they do once; how often stands beside each."""

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import anyio

from atlas.local.auth0 import TokenRequest
from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.faults import Fault
from tests.chaos.bench import Bench
from tests.chaos.crowd import REFUSALS, Crowd
from tests.chaos.moulds import Mould
from tests.chaos.phones import Export, wrapped
from tests.chaos.sockets import EXPORT, Sockets
from tests.chaos.standins import DOWN
from tests.chaos.trials import bombs, hostile
from tests.chaos.trials.branch import OTHERS
from tests.chaos.trials.load import Batch

LATER = {0, *REFUSALS}  # 0: somebody was in the way for so long that the phone gave up
FLOODING, FLOOD_SECONDS = 8, 2.0
STREAM_LINES, TWINS, CHUNKS = 20_000, 5, 6
FAULT_SECONDS = 4.0
SLOW_PAUSE_SECONDS, SLOW_SECONDS = 1.0, 60.0
BOMBERS = 20
PAGES = ("/metrics", "/picture", "/exports?limit=50", "/")
HTTP_FAILS = aiohttp.ClientError, OSError, TimeoutError

Act = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


@dataclass(slots=True)
class Mix:
    """All of them. What they draw, they draw from the bench's chance."""

    bench: Bench
    arsenal: Mapping[str, bombs.Bomb]
    mould: Mould = field(init=False)
    sockets: Sockets = field(init=False)

    def __post_init__(self) -> None:
        self.mould = Mould(self.bench.chance, 200)
        self.sockets = Sockets(self.bench.phones.url)

    def acts(self) -> Mapping[str, tuple[float, Act]]:
        """What is done, and every so many seconds."""
        return {
            "exports": (0.2, self.export),
            "twins": (7.0, self.twins),
            "batches": (5.0, self.batch),
            "streams": (13.0, self.stream),
            "floods": (20.0, self.flood),
            "bombs": (3.0, self.bomb),
            "JSON bombs": (2.0, self.line),
            "malformed requests": (1.0, self.malformed),
            "bad tokens": (0.5, self.token),
            "slow clients": (1.0, self.slow),
            "faults of Foundry": (30.0, self.fault),
            "looks of operators": (1.0, self.look),
            "viewers": (9.0, self.live),
        }

    async def export(self) -> None:
        number = self.bench.chance.random()
        headers = self.one([{}, {"Prefer": "respond-async"}, {"Idempotency_Key": f"key-{number}"}])
        await self.bench.phones.deliver(self.bench.phones.next(), **headers)

    async def twins(self) -> None:
        export = self.bench.phones.next()
        async with anyio.create_task_group() as tasks:
            for _ in range(TWINS):
                tasks.start_soon(self.bench.phones.deliver, export)

    async def batch(self) -> None:
        names = [f"chunk-{self.bench.phones.numbers()}" for _ in range(CHUNKS)]
        batch = Batch(f"auth0|batch {self.bench.phones.numbers() % BOMBERS}", self.mould, names)
        await batch.deliver(self.bench, until_safe=True)

    async def stream(self) -> None:
        """Cut off at times, and sent again."""
        phones, chance = self.bench.phones, self.bench.chance
        number = phones.numbers()
        export = Export.made(f"stream-{number}", f"auth0|years {number}", chance, STREAM_LINES)
        await phones.stream(export, share=chance.choice([0.5, 1.0]))
        while (answer := await phones.stream(export)).status in LATER:
            await anyio.sleep(bombs.AGAIN_SECONDS)
        self.expect(answer.status in {200, 202}, f"A stream got {answer.refusal}.")

    async def flood(self) -> None:
        bench, name = self.bench, f"flood-{self.bench.phones.numbers()}"
        crowd = Crowd(self.sockets, bench.standins.token, bench.oracle, bench.chance, name, flooder)
        tally = await crowd.never_rest(FLOODING, FLOOD_SECONDS, patience=0.0)
        bad = {status: n for status, n in tally.others().items() if status}
        self.expect(not bad, f"A flood got {bad}.")
        bench.oracle.given_up.update(n for n in bench.oracle.sent if n.startswith(f"{name}-"))

    async def bomb(self) -> None:
        name, kind = self.one(list(self.arsenal)), self.one([bombs.JSON, bombs.NDJSON])
        token = self.bench.standins.token(self.bomber())
        status, _ = await bombs.thrown(self.bench, token, kind, self.arsenal[name])
        self.expect(status in {*bombs.REFUSED, *LATER}, f"{name}, {kind}: answered {status}.")

    async def line(self) -> None:
        name = self.one(list(bombs.lines()))
        line, kind = bombs.lines()[name], self.one([bombs.JSON, bombs.NDJSON])
        text, export = bombs.between(self.bench, line.text)
        body = text if kind == bombs.NDJSON else wrapped(text)
        heard = await bombs.posted(self.bench, export, body, kind, self.bomber())
        if heard.status not in LATER:
            bombs.judge_line(self.bench, f"{name}, {kind}", line, heard)

    async def malformed(self) -> None:
        name = self.one(list(hostile.PROBES))
        request, statuses = hostile.PROBES[name]
        answers = await hostile.probed(self.sockets, request + hostile.SECOND, cut=20)
        is_one = len(answers) == 1 and answers[0] in {*statuses, 503}
        self.expect(is_one, f"{name}: answered {answers or 'nothing'}.")

    async def token(self) -> None:
        tenant = self.bench.standins.tenant
        tokens = [
            tenant.issue_token(TokenRequest(expires_in=-3_600)),
            tenant.issue_token(TokenRequest(key="stranger")),
            tenant.issue_token(TokenRequest(claims={"aud": "https://elsewhere.example"})),
            "rubbish",
            "",
        ]
        body = self.mould.body("nobody")
        head = self.sockets.head(EXPORT, self.one(tokens), body)
        status = (await self.sockets.post(head, body)).status
        self.expect(status in {401, *LATER}, f"A bad token was answered {status}.")

    async def slow(self) -> None:
        token = self.bench.standins.token(self.bomber())
        act = hostile.SLOW[self.one(list(hostile.MIXED))]
        with anyio.move_on_after(SLOW_SECONDS) as limit:
            await act(self.sockets, token, SLOW_PAUSE_SECONDS)
        self.expect(not limit.cancelled_caught, "A slow client was never closed.")

    async def fault(self) -> None:
        """Foundry is away, in a hurry, out of its mind, does not say what it did, is another's."""
        standins, seed = self.bench.standins, self.bench.chance.randrange(2**32)
        which = self.bench.chance.randrange(5)
        if which == 0:
            standins.misbehave(DOWN)
        elif which == 1:
            standins.misbehave(Fault("any", "status", status=429, retry_after=1, rate=0.2, count=0))
        elif which == 2:
            for call in ("create", "upload", "commit"):
                standins.misbehave(Fault(call=call, kind="lost", rate=0.2, count=0, seed=seed))
        elif which == 3:
            for kind in ("torn", "html", "rubbish"):
                standins.misbehave(Fault(call="any", kind=kind, rate=0.1, count=0, seed=seed))
        else:
            await self.foreign()
        await anyio.sleep(FAULT_SECONDS)
        standins.foundry.faults.clear()

    async def foreign(self) -> None:
        """With a file in it: an empty one may be ours, whose create was lost."""
        branches = self.bench.standins.foundry.branches
        with contextlib.suppress(FoundryApiError):
            found = self.bench.standins.foreign()
            branches.put(found, "somebody/else.ndjson", OTHERS)
            await anyio.sleep(FAULT_SECONDS)
            branches.abort(found)

    async def look(self) -> None:
        for room, pages in (
            (self.bench.atlas.operator, PAGES),
            (self.bench.phones.url, ("/health/live", "/health/ready", "/health")),
        ):
            with contextlib.suppress(*HTTP_FAILS):
                async with self.bench.phones.session.get(f"{room}{self.one(list(pages))}") as seen:
                    await seen.read()
                    self.expect(seen.status in {200, 503}, f"A look was answered {seen.status}.")

    async def live(self) -> None:
        with anyio.move_on_after(SLOW_PAUSE_SECONDS), contextlib.suppress(*HTTP_FAILS):
            async with self.bench.phones.session.get(f"{self.bench.atlas.operator}/live") as seen:
                async for _ in seen.content:
                    pass

    def one(self, of: list[T]) -> T:
        return self.bench.chance.choice(of)

    def bomber(self) -> str:
        return f"auth0|bomber {self.bench.chance.randrange(BOMBERS)}"

    def expect(self, holds: bool, otherwise: str) -> None:
        self.bench.findings.expect(holds, otherwise)


def flooder(_number: int) -> str:
    return "auth0|flood"
