"""Misbehaviour, by order: which calls, how often, and what befalls them.

    {"call": "commit", "kind": "lost", "how": "cut"}        it happens, and nobody hears of it
    {"call": "create", "kind": "refused", "how": "504"}     it does not happen, and nobody hears
    {"call": "upload", "kind": "status", "status": 429, "retry_after": 7, "count": 20}
    {"call": "any", "kind": "latency", "seconds": 0.2, "rate": 0.3, "seed": 1, "count": 0}
    {"call": "create", "kind": "status", "status": 409, "name": "Conflict"}
    {"call": "get", "kind": "html"}                         502
    {"call": "get", "kind": "rubbish"}                      200 and text; it does not happen
    {"call": "get", "kind": "torn"}                         it happens; half of its answer
    {"call": "get", "kind": "empty"}                        it happens; its answer has no body
    {"call": "get", "kind": "wrong_types"}                  it happens; no value has its type

`count` is how often (once if absent, 0 for ever), `after` how many calls are spared first, `rate`
the chance of each. `how` is "cut", "504" or "silence" for so many seconds.
"""

import asyncio
import random
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from atlas.local.http import cut, json

CallName = Literal[
    "token",
    "create",
    "commit",
    "abort",
    "get",
    "transactions",
    "branch",
    "dataset",
    "upload",
    "list",
    "file",
    "content",
    "delete",
    "schema",
    "table",
    "any",
]


class Fault(Struct, forbid_unknown_fields=True, omit_defaults=True):
    call: CallName
    kind: Literal[
        "latency",
        "lost",
        "refused",
        "status",
        "html",
        "torn",
        "rubbish",
        "empty",
        "wrong_types",
    ]
    how: Literal["cut", "504", "silence"] = "cut"
    seconds: float = 0.0
    status: int = 503
    name: str = "Default:Internal"
    retry_after: int | None = None
    do_not_retry: bool = False
    count: int = 1
    after: int = 0
    rate: float = 1.0
    seed: int = 0


class Faults:
    """Those that were asked for and have not come to their end."""

    def __init__(self) -> None:
        self.asked: list[Fault] = []
        self._chance: dict[int, random.Random] = {}

    def ask(self, fault: Fault) -> None:
        self.asked.append(fault)
        self._chance[id(fault)] = random.Random(fault.seed)  # noqa: S311 - to be repeated

    def clear(self) -> None:
        self.asked.clear()

    def next(self, call: str) -> Fault | None:
        """What befalls this call, if anything."""
        for fault in self.asked:
            if fault.call not in {call, "any"}:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.rate < 1.0 and self._chance[id(fault)].random() >= fault.rate:
                continue
            if fault.count == 1:
                self.asked.remove(fault)
            elif fault.count > 1:
                fault.count -= 1
            return fault
        return None


async def unheard(request: web.Request, fault: Fault) -> web.StreamResponse:
    """An answer that does not arrive."""
    if fault.how == "504":
        return web.Response(status=504, text="<html>Gateway Time-out</html>")
    if fault.how == "silence":
        await asyncio.sleep(fault.seconds)
    return cut(request)


def build_headers(fault: Fault) -> dict[str, str]:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.do_not_retry:
        headers["QoS-Retry-Hint"] = "do-not-retry"
    return headers


def mistype(whole: web.Response) -> web.Response:
    """The same JSON object with a value of another type in each field."""
    fields: dict[str, object] = {"data": ""}
    if whole.content_type == "application/json" and isinstance(whole.body, bytes):
        fields = msgspec.json.decode(whole.body)
    wrong = {name: {} if isinstance(each, list) else [each] for name, each in fields.items()}
    return json(wrong, whole.status)


async def torn(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Half of an answer."""
    text = whole.body if isinstance(whole.body, bytes) else b""
    answer = web.StreamResponse(status=whole.status, headers={"Content-Length": str(len(text) + 2)})
    await answer.prepare(request)
    await answer.write(text[: len(text) // 2])
    cut(request)
    return answer
