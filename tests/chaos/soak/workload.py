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
from tests.chaos.clients import Export, wrap
from tests.chaos.emulators import DOWN
from tests.chaos.export_templates import ExportTemplate
from tests.chaos.load_generator import REFUSALS, LoadGenerator
from tests.chaos.raw_http import EXPORT, RawHttpClient
from tests.chaos.scenarios import bombs, hostile
from tests.chaos.scenarios.branch import FOREIGN_CONTENT
from tests.chaos.scenarios.load import Batch
from tests.chaos.trial_environment import TrialEnvironment

RETRY_STATUSES = {0, *REFUSALS}  # 0: somebody was in the way for so long that the phone gave up
FLOODING, FLOOD_SECONDS = 8, 2.0
STREAM_LINES, TWINS, CHUNKS = 20_000, 5, 6
FAULT_SECONDS = 4.0
SLOW_PAUSE_SECONDS, SLOW_SECONDS = 1.0, 60.0
BOMBERS = 20
PAGES = ("/metrics", "/status", "/exports?limit=50", "/")
HTTP_FAILS = aiohttp.ClientError, OSError, TimeoutError

Action = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


@dataclass(slots=True)
class Workload:
    """All of them. What they draw, they draw from the bench's chance."""

    bench: TrialEnvironment
    bombs_by_name: Mapping[str, bombs.Bomb]
    template: ExportTemplate = field(init=False)
    sockets: RawHttpClient = field(init=False)

    def __post_init__(self) -> None:
        self.template = ExportTemplate(self.bench.rng, 200)
        self.sockets = RawHttpClient(self.bench.clients.url)

    def list_actions(self) -> Mapping[str, tuple[float, Action]]:
        """What is done, and every so many seconds."""
        return {
            "exports": (0.2, self.send_export),
            "twins": (7.0, self.send_twins),
            "batches": (5.0, self.send_batch),
            "streams": (13.0, self.send_stream),
            "floods": (20.0, self.send_flood),
            "bombs": (3.0, self.send_bomb),
            "JSON bombs": (2.0, self.send_line),
            "malformed requests": (1.0, self.send_malformed),
            "bad tokens": (0.5, self.try_token),
            "slow clients": (1.0, self.send_slowly),
            "faults of Foundry": (30.0, self.cause_fault),
            "looks of operators": (1.0, self.view_pages),
            "viewers": (9.0, self.view_stream),
        }

    async def send_export(self) -> None:
        number = self.bench.rng.random()
        headers = self.choose(
            [{}, {"Prefer": "respond-async"}, {"Idempotency_Key": f"key-{number}"}]
        )
        await self.bench.clients.deliver(self.bench.clients.next_export(), **headers)

    async def send_twins(self) -> None:
        export = self.bench.clients.next_export()
        async with anyio.create_task_group() as tasks:
            for _ in range(TWINS):
                tasks.start_soon(self.bench.clients.deliver, export)

    async def send_batch(self) -> None:
        names = [f"chunk-{self.bench.clients.numbers()}" for _ in range(CHUNKS)]
        batch = Batch(f"auth0|batch {self.bench.clients.numbers() % BOMBERS}", self.template, names)
        await batch.deliver(self.bench, until_safe=True)

    async def send_stream(self) -> None:
        """Cut off at times, and sent again."""
        phones, rng = self.bench.clients, self.bench.rng
        number = phones.numbers()
        export = Export.generate(f"stream-{number}", f"auth0|years {number}", rng, STREAM_LINES)
        await phones.stream(export, share=rng.choice([0.5, 1.0]))
        while (answer := await phones.stream(export)).status in RETRY_STATUSES:
            await anyio.sleep(bombs.AGAIN_SECONDS)
        self.check(answer.status in {200, 202}, f"A stream got {answer.refusal}.")

    async def send_flood(self) -> None:
        bench, name = self.bench, f"flood-{self.bench.clients.numbers()}"
        crowd = LoadGenerator(
            self.sockets, bench.emulators.issue_token, bench.oracle, bench.rng, name, choose_flooder
        )
        tally = await crowd.run_closed_loop(FLOODING, FLOOD_SECONDS, patience=0.0)
        bad = {status: count for status, count in tally.count_unexpected().items() if status}
        self.check(not bad, f"A flood got {bad}.")
        bench.oracle.given_up.update(n for n in bench.oracle.sent if n.startswith(f"{name}-"))

    async def send_bomb(self) -> None:
        name, kind = self.choose(list(self.bombs_by_name)), self.choose([bombs.JSON, bombs.NDJSON])
        token = self.bench.emulators.issue_token(self.choose_bomber())
        status, _ = await bombs.send_bomb(self.bench, token, kind, self.bombs_by_name[name])
        self.check(
            status in {*bombs.REFUSED, *RETRY_STATUSES}, f"{name}, {kind}: answered {status}."
        )

    async def send_line(self) -> None:
        name = self.choose(list(bombs.build_lines()))
        line, kind = bombs.build_lines()[name], self.choose([bombs.JSON, bombs.NDJSON])
        text, export = bombs.build_export(self.bench, line.text)
        body = text if kind == bombs.NDJSON else wrap(text)
        response = await bombs.post_export(self.bench, export, body, kind, self.choose_bomber())
        if response.status not in RETRY_STATUSES:
            bombs.check_line(self.bench, f"{name}, {kind}", line, response)

    async def send_malformed(self) -> None:
        name = self.choose(list(hostile.PROBES))
        request, statuses = hostile.PROBES[name]
        answers = await hostile.probe(self.sockets, request + hostile.SECOND, cut=20)
        is_one = len(answers) == 1 and answers[0] in {*statuses, 503}
        self.check(is_one, f"{name}: answered {answers or 'nothing'}.")

    async def try_token(self) -> None:
        tenant = self.bench.emulators.tenant
        tokens = [
            tenant.issue_token(TokenRequest(expires_in=-3_600)),
            tenant.issue_token(TokenRequest(key="stranger")),
            tenant.issue_token(TokenRequest(claims={"aud": "https://elsewhere.example"})),
            "rubbish",
            "",
        ]
        body = self.template.render_json("nobody")
        head = self.sockets.build_head(EXPORT, self.choose(tokens), body)
        status = (await self.sockets.post(head, body)).status
        self.check(status in {401, *RETRY_STATUSES}, f"A bad token was answered {status}.")

    async def send_slowly(self) -> None:
        token = self.bench.emulators.issue_token(self.choose_bomber())
        act = hostile.SLOW[self.choose(list(hostile.MIXED))]
        with anyio.move_on_after(SLOW_SECONDS) as limit:
            await act(self.sockets, token, SLOW_PAUSE_SECONDS)
        self.check(not limit.cancelled_caught, "A slow client was never closed.")

    async def cause_fault(self) -> None:
        """Foundry is away, in a hurry, out of its mind, does not say what it did, is another's."""
        standins, seed = self.bench.emulators, self.bench.rng.randrange(2**32)
        which = self.bench.rng.randrange(5)
        if which == 0:
            standins.set_faults(DOWN)
        elif which == 1:
            standins.set_faults(
                Fault("any", "status", status=429, retry_after=1, rate=0.2, count=0)
            )
        elif which == 2:
            for call in ("create", "upload", "commit"):
                standins.set_faults(Fault(call=call, kind="lost", rate=0.2, count=0, seed=seed))
        elif which == 3:
            for kind in ("torn", "html", "rubbish"):
                standins.set_faults(Fault(call="any", kind=kind, rate=0.1, count=0, seed=seed))
        else:
            await self.open_foreign()
        await anyio.sleep(FAULT_SECONDS)
        standins.foundry.faults.clear()

    async def open_foreign(self) -> None:
        """With a file in it: an empty one may be ours, whose create was lost."""
        branches = self.bench.emulators.foundry.branches
        with contextlib.suppress(FoundryApiError):
            transaction = self.bench.emulators.open_foreign()
            branches.put(transaction, "somebody/else.ndjson", FOREIGN_CONTENT)
            await anyio.sleep(FAULT_SECONDS)
            branches.abort(transaction)

    async def view_pages(self) -> None:
        for base_url, pages in (
            (self.bench.atlas.operator, PAGES),
            (self.bench.clients.url, ("/health/live", "/health/ready", "/health")),
        ):
            with contextlib.suppress(*HTTP_FAILS):
                async with self.bench.clients.session.get(
                    f"{base_url}{self.choose(list(pages))}"
                ) as response:
                    await response.read()
                    self.check(
                        response.status in {200, 503}, f"A look was answered {response.status}."
                    )

    async def view_stream(self) -> None:
        with anyio.move_on_after(SLOW_PAUSE_SECONDS), contextlib.suppress(*HTTP_FAILS):
            async with self.bench.clients.session.get(
                f"{self.bench.atlas.operator}/status/stream"
            ) as response:
                async for _ in response.content:
                    pass

    def choose(self, of: list[T]) -> T:
        return self.bench.rng.choice(of)

    def choose_bomber(self) -> str:
        return f"auth0|bomber {self.bench.rng.randrange(BOMBERS)}"

    def check(self, holds: bool, otherwise: str) -> None:
        self.bench.findings.check(holds, otherwise)


def choose_flooder(_number: int) -> str:
    return "auth0|flood"
