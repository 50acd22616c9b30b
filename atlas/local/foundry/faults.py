"""Faults on request: for which calls, how often, and with which effect.

    {"call": "commit", "kind": "lost", "how": "cut"}        carried out; the response is lost
    {"call": "create", "kind": "refused", "how": "504"}     not carried out, no response either
    {"call": "upload", "kind": "status", "status": 429, "retry_after": 7, "count": 20}
    {"call": "any", "kind": "latency", "seconds": 0.2, "rate": 0.3, "seed": 1, "count": 0}
    {"call": "create", "kind": "status", "status": 409, "name": "Conflict"}
    {"call": "get", "kind": "html"}                         502
    {"call": "get", "kind": "rubbish"}                      not carried out; 200 and text
    {"call": "get", "kind": "torn"}                         carried out; half of the response
    {"call": "get", "kind": "empty"}                        carried out; a response without body
    {"call": "get", "kind": "wrong_types"}                  carried out; values of wrong types
    {"call": "upload", "kind": "status", "path": "2026-01"} only if the path contains this
    {"call": "upload", "kind": "status", "user": "auth0|a"} only if rows in an .ndjson file have it

`count` is the number of times (default 1, 0 for unlimited), `after` the number of calls to skip
first, `rate` the probability for each call. `how` is "cut", "504", or "silence" for `seconds`. A
status can be late by `seconds`, too. Of several faults for a call, the first in the list applies.
"""

import asyncio
import random
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from atlas.local.http import drop_connection, json_response

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
    "schema_service",
    "view",
    "sql",
    "stream",
    "publish",
    "records",
    "any",
]


class Fault(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A fault; see above for its fields."""

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
    path: str = ""
    user: str = ""

    def has_target(self, path: str, content: bytes) -> bool:
        """True if it concerns calls with this path and content."""
        row = b'"auth0_user_id":' + msgspec.json.encode(self.user)
        return self.path in path and (not self.user or row in content)


class Faults:
    """The faults that were requested and are not used up."""

    def __init__(self) -> None:
        self.pending: list[Fault] = []
        self._rng: dict[int, random.Random] = {}

    def add(self, fault: Fault, *, is_first: bool = False) -> None:
        self.pending.insert(0 if is_first else len(self.pending), fault)
        self._rng[id(fault)] = random.Random(fault.seed)  # noqa: S311 - to be repeated

    def clear(self) -> None:
        self.pending.clear()

    @property
    def needs_content(self) -> bool:
        """True if the fault of an upload depends on the content of its file."""
        return any(fault.user for fault in self.pending)

    def take(self, call: str, path: str = "", content: bytes = b"") -> Fault | None:
        """Return the fault for this call, if any."""
        for fault in self.pending:
            if fault.call not in {call, "any"} or not fault.has_target(path, content):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.rate < 1.0 and self._rng[id(fault)].random() >= fault.rate:
                continue
            if fault.count == 1:
                self.pending.remove(fault)
            elif fault.count > 1:
                fault.count -= 1
            return fault
        return None


async def lose_answer(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Lose the response to a call."""
    if fault.how == "504":
        return web.Response(status=504, text="<html>Gateway Time-out</html>")
    if fault.how == "silence":
        await asyncio.sleep(fault.seconds)
    return drop_connection(request)


def build_headers(fault: Fault) -> dict[str, str]:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.do_not_retry:
        headers["QoS-Retry-Hint"] = "do-not-retry"
    return headers


def mistype(response: web.Response) -> web.Response:
    """Give each field of a JSON response a value of another type."""
    fields: dict[str, object] = {"data": ""}
    if response.content_type == "application/json" and isinstance(response.body, bytes):
        fields = msgspec.json.decode(response.body)
    wrong = {name: {} if isinstance(each, list) else [each] for name, each in fields.items()}
    return json_response(wrong, response.status)


async def truncate(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send half of a response."""
    text = response.body if isinstance(response.body, bytes) else b""
    answer = web.StreamResponse(
        status=response.status, headers={"Content-Length": str(len(text) + 2)}
    )
    await answer.prepare(request)
    await answer.write(text[: len(text) // 2])
    drop_connection(request)
    return answer
