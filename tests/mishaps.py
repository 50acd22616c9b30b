"""What Atlas lives through in a cage, act by act; whatever can be said, a canary says it."""

import base64
import gzip
import random
import signal
from collections.abc import Iterator
from functools import partial

import aiohttp
import anyio
import msgspec
from aiohttp import web

from atlas.core.names import API_PREFIX
from atlas.local.auth0 import Outage
from atlas.local.foundry.faults import Fault
from tests.cage import SECONDS, Cage, children, environ_of
from tests.canaries import Canaries, joined
from tests.chaos.bugs import BREAKS, EVERYWHERE, IN_FLATTEN

SAMPLE = (
    "uuid sampleType type sourceName source startDate start endDate end sampleClass quantityType"
    " sourceVersion dataType unit"
).split()
OF_A_DEVICE = "name model manufacturer hardwareVersion softwareVersion localIdentifier".split()
DAMAGE = 6  # bits


def sample(c: Canaries, name: str, **more: object) -> bytes:
    """One record with a canary in each of its fields, keys that nobody knows among them."""
    fields = {key: c[f"{name}.{key}"] for key in SAMPLE}
    device = {key: c[f"{name}.device.{key}"] for key in OF_A_DEVICE}
    device[c[f"{name}.device.key"]] = {c[f"{name}.deep.key"]: [c[f"{name}.deep"]]}
    rest = {
        "value": c.number(f"{name}.value"),
        "device": device,
        "metadata": {c[f"{name}.metadata.key"]: c[f"{name}.metadata.value"]},
        c[f"{name}.key"]: f"Zoë’s {c[f'{name}.unknown']}\n\u2028",
    }
    return msgspec.json.encode(fields | rest | more) + b"\n"


def bad_lines(c: Canaries) -> bytes:
    """Each wrong in a way of its own."""
    a = c["bad.line"].encode()
    return joined(
        b'{"uuid":"%b' % a,
        b'["%b"]' % a,
        b'"%b"' % a,
        b'{"uuid":"\\ud800%b"}' % a,
        b'{"%b":1e400}' % a,
        b'{"uuid":"%b\xff"}' % a,
        b'{"%b":' % a + b"[" * 99 + b"]" * 99 + b"}",
    )


def encoded(body: object) -> bytes:
    return msgspec.json.encode(body)


def packed(ndjson: bytes) -> str:
    return base64.b64encode(ndjson).decode()


async def good_exports(cage: Cage) -> None:
    c = cage.canaries
    token = cage.token(f"auth0|{c['sub ada']}")
    headers = {
        "Idempotency_Key": c["idempotency.key"],
        "User_Agent": c["user.agent"],
        "Cookie": c["cookie"],
        "Referer": c["referer"],
        "X_Forwarded_For": c["forwarded"],
        "Baggage": c["baggage"],
        "Tracestate": f"a={c['tracestate']}",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-" + c["header.name"]: c["header.value"],
    }
    for _ in range(2):
        answer = await cage.post(sample(c, "json"), token, **headers)
        assert answer.status == 200, answer.text
    assert (await cage.post(sample(c, "batch"), token, "/export/batch")).status == 200
    many = b"".join(sample(c, "many", line=number) for number in range(150))
    assert (await cage.post(many, token)).status == 200
    stream = {"Atlas_Device": c["stream.device"], "Atlas_Timestamp": c["stream.timestamp"]}
    stream |= {"Content_Type": "application/x-ndjson", "Content_Encoding": "gzip"}
    body = gzip.compress(sample(c, "stream") + bad_lines(c))
    found = await cage.send("POST", f"{API_PREFIX}/export", token, body, **stream)
    assert found.status == 200, found.text
    claimed = {"rawhealthkit": packed(sample(c, "counted")), "recordCount": c["record.count"]}
    assert (await cage.send("POST", f"{API_PREFIX}/export", token, encoded(claimed))).status == 200
    key = c["idempotency.key"]
    listed = await cage.send("GET", f"{API_PREFIX}/exports?key={key}", token)
    id = listed.body["receipts"][0]["receipt_id"]
    assert (await cage.send("GET", f"{API_PREFIX}/exports/{id}", token)).status == 200
    for sub in (f"../../{c['sub dots']}", f"{c['sub nul']}\0/%2F..", f"é{c['sub long']}" * 40):
        assert (await cage.post(sample(c, "odd"), cage.token(sub))).status == 200


async def bad_requests(cage: Cage) -> None:
    """Every 4xx that there is, each with what its sender would rather not read in a log."""
    c = cage.canaries
    token = cage.token(f"auth0|{c['sub eve']}")
    a, b = (c[f"bad.{name}"] for name in "ab")
    asked: list[tuple[int, str, str, bytes, dict[str, str]]] = [
        (400, "POST", "/export", b'{"rawhealthkit": "%b' % a.encode(), {}),
        (400, "POST", "/export", b'"%b"' % a.encode(), {}),
        (400, "POST", "/export", encoded({"rawhealthkit": {a: b}}), {}),
        (400, "POST", "/export", encoded({"rawhealthkit": f"{a}!{b}"}), {}),
        (400, "POST", "/export", encoded({"rawhealthkit": packed(bad_lines(c))}), {}),
        (400, "POST", "/export", b"\xff" + a.encode(), {}),
        (400, "POST", "/export", a.encode(), {"Content-Encoding": "gzip"}),
        (400, "POST", "/export/batch", encoded({"chunks": a}), {}),
        (400, "POST", "/export/batch", encoded({"chunks": [a, {a: b}, {"rawhealthkit": a}]}), {}),
        (400, "POST", "/export/batch", encoded({"chunks": [{"rawhealthkit": a}] * 65}), {}),
        (400, "GET", f"/exports?limit={a}", b"", {}),
        (401, "POST", "/export", b"", {"Authorization": f"Basic {a}"}),
        (404, "GET", f"/exports/{a}?{a}={b}", b"", {}),
        (404, "GET", f"/{a}/%2E%2E/{b}", b"", {}),
        (405, "DELETE", f"/export?{a}={b}", b"", {}),
        (413, "POST", "/export", encoded({"rawhealthkit": a * 20_000}), {}),
        (413, "POST", "/export", encoded({"rawhealthkit": packed(a.encode() * 10_600)}), {}),
        (415, "POST", "/export", a.encode(), {"Content-Type": f"text/{a}; charset={b}"}),
        (415, "POST", "/export", a.encode(), {"Content-Encoding": a}),
    ]
    for status, method, path, body, headers in asked:
        answer = await cage.send(method, API_PREFIX + path, token, body, **headers)
        assert answer.status == status, (path, answer)
        kind = {"Accept": "application/problem+json", **headers}
        assert (await cage.send(method, API_PREFIX + path, token, body, **kind)).status == status
    await a_key_used_twice(cage, token)
    await what_is_no_request(cage, a, b)
    head = f"POST {API_PREFIX}/export HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
    slow = await cage.raw(f'{head}Content-Length: 999\r\n\r\n{{"{a}":"{b}'.encode())
    assert slow.startswith(b"HTTP/1.1 408 ")


async def a_key_used_twice(cage: Cage, token: str) -> None:
    c, key = cage.canaries, {"Idempotency_Key": cage.canaries["key.reused"]}
    assert (await cage.post(sample(c, "first"), token, **key)).status == 200
    assert (await cage.post(sample(c, "second"), token, **key)).status == 422


async def what_is_no_request(cage: Cage, a: str, b: str) -> None:
    for text in (
        f"GET /{a} HTTP/9.9\r\n\r\n",
        f"{a}\r\n\r\n",
        f"{a.upper()} /{a} HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: {b}\r\nContent-Length: {a}\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: h\r\n{a} : {b}\r\n\r\n",
        f"POST /{a} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {b}\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: h\r\nX: {a * 4_000}\r\n\r\n",
    ):
        await cage.raw(text.encode())


async def bad_tokens(cage: Cage) -> None:
    """Of all of them nothing is told, whoever has signed them."""
    c, sub = cage.canaries, f"auth0|{cage.canaries['sub of a bad token']}"
    good = cage.token(sub)
    for token in (
        c["opaque"],
        good[:-6],
        good.replace(".", f".{c['inside']}", 1),
        cage.token(sub, expires_in=-3_600),
        cage.token(sub, claims={"cnf": {"jkt": c["cnf"]}}),
        cage.token(sub, claims={"aud": c["aud"]}),
        cage.token(sub, claims={"sub": [c["sub in a list"]]}),
        cage.token(sub, header={"kid": c["kid"]}),
        cage.token(sub, header={"jku": f"https://{c['jku']}/"}),
        cage.token(sub, key="stranger"),
    ):
        answer = await cage.send("POST", f"{API_PREFIX}/export", token, sample(c, "of a stranger"))
        assert answer.status == 401
    long = cage.token(sub, claims={c["long"]: c["long"] * 1_000})
    answer = await cage.send("POST", f"{API_PREFIX}/export", long, sample(c, "of a stranger"))
    assert answer.status == 431
    assert (await cage.send("GET", f"{API_PREFIX}/exports", cage.token(None))).status == 400
    assert (await cage.asked("GET", "/exports", token=c["operator.guess"])).status == 401


async def operators(cage: Cage) -> None:
    """All that they can look at, by page and by command."""
    c = cage.canaries
    listed = (await cage.asked("GET", "/exports?limit=100")).body
    id, find = listed["entries"][0]["receipt"]["id"], c["operator.find"]
    for path in ("/", "/picture", "/live", "/metrics", f"/exports/{id}", f"/exports?find={find}"):
        assert (await cage.asked("GET", path)).status == 200
    for path in (f"/exports/{find}", f"/{find}", f"/exports?status={find}"):
        assert (await cage.asked("GET", path)).status in {400, 404}
    user = f"auth0|{c['sub ada']}"
    assert (await cage.asked("POST", "/where", {"user": user})).status == 200
    token = cage.token(user)
    for asked in ({"token": token}, {"token": token[:-9]}, {"token": c["opaque"]}):
        assert (await cage.asked("POST", "/diagnose", asked)).status == 200
    async with anyio.create_task_group() as tasks:
        for command in (
            ("diagnose", "--report", "report.md", "--url", cage.url),
            ("diagnose", "--json"),
            ("exports", "list", "--limit", "100"),
            ("exports", "list", "--json", "--find", find),
            ("exports", "show", id),
            ("top", "--once"),
            ("top", "--once", "--json"),
        ):
            tasks.start_soon(partial(cage.atlas, *command, ATLAS_TOKEN=token))
    assert "of their own" in await cage.atlas("where", "-", input=f"{user}\n")


def refusals(c: Canaries) -> Iterator[web.Response]:
    """What Foundry says no with: all of it repeats all that it was ever sent."""
    everything = c.texts()
    values = {"path": c["sub ada"], **{f"p{n}": text for n, text in enumerate(everything)}}
    for status, name in (
        (400, "InvalidParameterCombination"),
        (403, "ApiUsageDenied"),
        (403, f"{c['sub ada']}PermissionDenied"),
        (404, c["json.sourceName"]),
        (409, "OpenTransactionAlreadyExists"),
        (422, "Unprocessable"),
    ):
        error = {"errorCode": c["sub ada"], "errorName": name, "errorInstanceId": c["json.uuid"]}
        parameters = {"parameters": values | {"missingScope": c["json.uuid"]}}
        yield web.json_response(error | parameters, status=status)
    html = f"<html>{' '.join(everything)}</html>"
    for status in (500, 502):
        yield web.Response(status=status, text=html, content_type="text/html")
    yield web.Response(status=429, headers={"Retry-After": c["json.uuid"]}, text=html)
    yield web.Response(status=302, headers={"Location": f"http://{c['json.uuid']}/"}, text=html)
    yield web.Response(text=html)
    yield web.json_response(values)


async def foundry_refuses(cage: Cage) -> None:
    """Each call in turn, in every way that there is; then it hangs, then it takes it."""
    c = cage.canaries
    for call in ("create", "upload", "commit", "token"):
        left = list(refusals(c))[:: 1 if call == "upload" else 6]

        def refuse(what, _request, *, left=left, call=call):
            return left.pop() if left and what == call else None

        cage.standins.before = refuse
        if call == "token":
            cage.standins.foundry.revoke_tokens()
        token = cage.token(f"auth0|{c['sub of ' + call]}")
        for number in range(len(left)):
            rows = sample(c, f"refused {call}", number=number)
            await cage.post(rows, token, Prefer="respond-async")
        with anyio.fail_after(SECONDS):
            while left:
                await anyio.sleep(0.05)
    await cage.standins.behave()
    cage.standins.misbehave(Fault(call="upload", kind="latency", seconds=3.0))
    await cage.post(sample(c, "hangs"), token, Prefer="respond-async")
    await cage.drained()


async def poison(cage: Cage) -> None:
    """What Foundry refuses for good is set aside, looked at, and sent again."""
    c = cage.canaries
    mark = c["sub poison"]

    def refuse(what: str, request: web.Request) -> web.Response | None:
        told = {"errorName": "Default:Poison", "parameters": {"path": request.path, "x": mark}}
        is_it = what == "upload" and mark in request.path
        return web.json_response(told, status=413) if is_it else None

    cage.standins.before = refuse
    await cage.post(sample(c, "poison"), cage.token(f"auth0|{mark}"), Prefer="respond-async")
    await cage.counted(set_aside=1)
    found = (await cage.asked("GET", "/exports?status=set_aside")).body["entries"][0]
    await cage.atlas("exports", "show", found["receipt"]["id"])
    await cage.atlas("exports", "list", "--status", "set_aside")
    await cage.atlas("where", "-", input=f"auth0|{mark}\n")
    await cage.standins.behave()
    await cage.atlas("exports", "replay", "--all")
    await cage.drained()
    await cage.counted(committed=1)


def no_transaction(what: str, _request: web.Request) -> web.Response | None:
    return web.Response(status=503) if what == "create" else None


async def killed_and_damaged(cage: Cage) -> None:
    """While much waits: then the disk has changed what was kept.

    No transaction of ours is open: what a disk forgets of one is left to whoever runs Foundry.
    """
    c = cage.canaries
    cage.standins.before = no_transaction
    for number in range(12):
        token = cage.token(f"auth0|{c['sub waits']}{number}")
        await cage.post(sample(c, f"waits {number}"), token, Prefer="respond-async")
    cage.kept()
    await cage.ended(signal.SIGKILL)
    cage.kept()
    chance = random.Random(c.seed)
    for file in (cage.journal, cage.journal.with_name("journal.db-wal")):
        text = bytearray(file.read_bytes())
        for _ in range(DAMAGE):
            text[chance.randrange(len(text) // 2, len(text))] ^= 1
        file.write_bytes(text)


async def crashes(cage: Cage) -> None:
    """A bug that quotes what it was given: an export that breaks a stage, at first."""
    c = cage.canaries
    since = len(cage.log)
    await cage.start(IN_FLATTEN, "1")
    assert "Journal damaged" in cage.log[since:]
    token = cage.token(f"auth0|{c['sub crash']}")
    breaks = sample(c, "crash").replace(b"{", b'{"says":' + BREAKS + b",", 1)
    for _ in range(2):
        assert (await cage.post(breaks, token)).status == 202
    aside = (await cage.asked("GET", "/exports?status=set_aside&limit=50")).body["entries"]
    id = next(
        each["receipt"]["id"] for each in aside if each["reason"] and "crash" in each["reason"]
    )
    await cage.atlas("exports", "show", id)
    await cage.atlas("exports", "replay", id)
    cage.kept()
    await cage.standins.behave()
    await cage.drained()
    assert await cage.ended(signal.SIGTERM) == 0
    cage.kept()


async def bugs_to_the_end(cage: Cage) -> None:
    """Then every call of every part, until the service gives up."""
    c = cage.canaries
    since = len(cage.log)
    await cage.start(EVERYWHERE, "1")
    token = cage.token(f"auth0|{c['sub of the end']}")
    assert cage.process is not None
    with anyio.fail_after(60):
        while cage.process.returncode is None:
            try:
                await cage.post(sample(c, "at the end"), token)
            except (OSError, aiohttp.ClientError):
                await anyio.sleep(0.1)
    assert await cage.ended() != 0
    assert "Ended by a bug" in cage.log[since:]


async def without_keys(cage: Cage) -> None:
    """Auth0 sends us on elsewhere, so that no token can be checked; then one comes too often."""
    c = cage.canaries
    cage.environ["ATLAS_RATE_PER_MINUTE"] = "1"
    cage.standins.tenant.outage = Outage(status=302)
    await cage.start()
    token = cage.token(f"auth0|{c['sub unknown']}")
    assert (await cage.post(sample(c, "unknown"), token)).status == 503
    cage.standins.tenant.outage = Outage(on=False)
    with anyio.fail_after(SECONDS):
        while (await cage.post(sample(c, "often"), token)).status != 429:
            await anyio.sleep(0.1)


async def forgotten(cage: Cage) -> None:
    """At last a person is forgotten, and the process aborted, with all that it has in memory."""
    c = cage.canaries
    cage.dataset = cage.committed()
    forget = ("forget", "-", "--yes", "--receipt", "receipt.json")
    assert "Removed" in await cage.atlas(*forget, input=f"auth0|{c['sub ada']}\n")
    await cage.ended(signal.SIGABRT)
    assert "Fatal Python error: Aborted" in cage.log


async def everything(cage: Cage) -> None:
    """One after another, with a kill, a crash and an abort in between."""
    await cage.start()
    await good_exports(cage)
    await bad_requests(cage)
    await bad_tokens(cage)
    await operators(cage)
    its_workers_know_no_more(cage)
    await foundry_refuses(cage)
    await poison(cage)
    await killed_and_damaged(cage)
    await crashes(cage)
    await bugs_to_the_end(cage)
    await without_keys(cage)
    await forgotten(cage)
    cage.kept()


def its_workers_know_no_more(cage: Cage) -> None:
    """They get the environment of their parent, for they are a part of it; and nothing beside."""
    assert cage.process is not None
    workers = children(cage.process.pid)
    assert workers
    for worker in workers:
        assert environ_of(worker) - environ_of(cage.process.pid) == set()
