"""The fault scenarios of a sandbox, act by act; every possible input carries a canary."""

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

from atlas.core.identifiers import API_PREFIX
from atlas.local.auth0 import Outage
from atlas.local.foundry.faults import Fault
from tests.chaos.injected_faults import EVERYWHERE, FAULT_MARKER, IN_FLATTEN
from tests.support.canaries import Canaries, joined
from tests.support.processes import children
from tests.support.sandbox import SECONDS, Sandbox, environ_of

SAMPLE = (
    "uuid sampleType type sourceName source startDate start endDate end sampleClass quantityType"
    " sourceVersion dataType unit"
).split()
OF_A_DEVICE = "name model manufacturer hardwareVersion softwareVersion localIdentifier".split()
DAMAGE = 6  # flipped bits


def sample(c: Canaries, name: str, **more: object) -> bytes:
    """Return one record with a canary in each field, unknown keys among them."""
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
    """Return lines that are each invalid in a different way."""
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


async def good_exports(sandbox: Sandbox) -> None:
    c = sandbox.canaries
    token = sandbox.token(f"auth0|{c['sub ada']}")
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
        answer = await sandbox.post(sample(c, "json"), token, **headers)
        assert answer.status == 200, answer.text
    assert (await sandbox.post(sample(c, "batch"), token, "/export/batch")).status == 200
    many = b"".join(sample(c, "many", line=number) for number in range(150))
    assert (await sandbox.post(many, token)).status == 200
    stream = {"Atlas_Device": c["stream.device"], "Atlas_Timestamp": c["stream.timestamp"]}
    stream |= {"Content_Type": "application/x-ndjson", "Content_Encoding": "gzip"}
    body = gzip.compress(sample(c, "stream") + bad_lines(c))
    found = await sandbox.send("POST", f"{API_PREFIX}/export", token, body, **stream)
    assert found.status == 200, found.text
    claimed = {"rawhealthkit": packed(sample(c, "counted")), "recordCount": c["record.count"]}
    assert (
        await sandbox.send("POST", f"{API_PREFIX}/export", token, encoded(claimed))
    ).status == 200
    key = c["idempotency.key"]
    listed = await sandbox.send("GET", f"{API_PREFIX}/exports?key={key}", token)
    id = listed.body["receipts"][0]["receipt_id"]
    assert (await sandbox.send("GET", f"{API_PREFIX}/exports/{id}", token)).status == 200
    for sub in (f"../../{c['sub dots']}", f"{c['sub nul']}\0/%2F..", f"é{c['sub long']}" * 40):
        assert (await sandbox.post(sample(c, "odd"), sandbox.token(sub))).status == 200


async def bad_requests(sandbox: Sandbox) -> None:
    """Cause every 4xx, each with data that must not appear in a log."""
    c = sandbox.canaries
    token = sandbox.token(f"auth0|{c['sub eve']}")
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
        answer = await sandbox.send(method, API_PREFIX + path, token, body, **headers)
        assert answer.status == status, (path, answer)
        kind = {"Accept": "application/problem+json", **headers}
        assert (await sandbox.send(method, API_PREFIX + path, token, body, **kind)).status == status
    await a_key_used_twice(sandbox, token)
    await send_malformed_request(sandbox, a, b)
    head = f"POST {API_PREFIX}/export HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
    slow = await sandbox.send_raw(f'{head}Content-Length: 999\r\n\r\n{{"{a}":"{b}'.encode())
    assert slow.startswith(b"HTTP/1.1 408 ")


async def a_key_used_twice(sandbox: Sandbox, token: str) -> None:
    c, key = sandbox.canaries, {"Idempotency_Key": sandbox.canaries["key.reused"]}
    assert (await sandbox.post(sample(c, "first"), token, **key)).status == 200
    assert (await sandbox.post(sample(c, "second"), token, **key)).status == 422


async def send_malformed_request(sandbox: Sandbox, a: str, b: str) -> None:
    for text in (
        f"GET /{a} HTTP/9.9\r\n\r\n",
        f"{a}\r\n\r\n",
        f"{a.upper()} /{a} HTTP/1.1\r\nHost: h\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: {b}\r\nContent-Length: {a}\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: h\r\n{a} : {b}\r\n\r\n",
        f"POST /{a} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {b}\r\n\r\n",
        f"GET /{a} HTTP/1.1\r\nHost: h\r\nX: {a * 4_000}\r\n\r\n",
    ):
        await sandbox.send_raw(text.encode())


async def bad_tokens(sandbox: Sandbox) -> None:
    """Send invalid tokens, none of which may be logged, whoever signed them."""
    c, sub = sandbox.canaries, f"auth0|{sandbox.canaries['sub of a bad token']}"
    good = sandbox.token(sub)
    for token in (
        c["opaque"],
        good[:-6],
        good.replace(".", f".{c['inside']}", 1),
        sandbox.token(sub, expires_in=-3_600),
        sandbox.token(sub, claims={"cnf": {"jkt": c["cnf"]}}),
        sandbox.token(sub, claims={"aud": c["aud"]}),
        sandbox.token(sub, claims={"sub": [c["sub in a list"]]}),
        sandbox.token(sub, header={"kid": c["kid"]}),
        sandbox.token(sub, header={"jku": f"https://{c['jku']}/"}),
        sandbox.token(sub, key="stranger"),
    ):
        answer = await sandbox.send(
            "POST", f"{API_PREFIX}/export", token, sample(c, "of a stranger")
        )
        assert answer.status == 401
    long = sandbox.token(sub, claims={c["long"]: c["long"] * 1_000})
    answer = await sandbox.send("POST", f"{API_PREFIX}/export", long, sample(c, "of a stranger"))
    assert answer.status == 431
    assert (await sandbox.send("GET", f"{API_PREFIX}/exports", sandbox.token(None))).status == 400
    assert (
        await sandbox.query_operator("GET", "/exports", token=c["operator.guess"])
    ).status == 401


async def operators(sandbox: Sandbox) -> None:
    """Request everything that operators can see, by page and by command."""
    c = sandbox.canaries
    listed = (await sandbox.query_operator("GET", "/exports?limit=100")).body
    id, find = listed["entries"][0]["receipt"]["id"], c["operator.find"]
    for path in (
        "/",
        "/status",
        "/status/stream",
        "/metrics",
        f"/exports/{id}",
        f"/exports?find={find}",
    ):
        assert (await sandbox.query_operator("GET", path)).status == 200
    for path in (f"/exports/{find}", f"/{find}", f"/exports?status={find}"):
        assert (await sandbox.query_operator("GET", path)).status in {400, 404}
    user = f"auth0|{c['sub ada']}"
    assert (await sandbox.query_operator("POST", "/personal-data", {"user": user})).status == 200
    assert (await sandbox.query_operator("GET", "/phones")).status == 200
    token = sandbox.token(user)
    for asked in ({"token": token}, {"token": token[:-9]}, {"token": c["opaque"]}):
        assert (await sandbox.query_operator("POST", "/diagnose", asked)).status == 200
    async with anyio.create_task_group() as tasks:
        for command in (
            ("diagnose", "--report", "report.md", "--url", sandbox.url),
            ("diagnose", "--json"),
            ("exports", "list", "--limit", "100"),
            ("exports", "list", "--json", "--find", find),
            ("exports", "show", id),
            ("phones",),
            ("top", "--once"),
            ("top", "--once", "--json"),
        ):
            tasks.start_soon(partial(sandbox.atlas, *command, ATLAS_TOKEN=token))
    assert "of their own" in await sandbox.atlas("person", "show", "-", input=f"{user}\n")


def refusals(c: Canaries) -> Iterator[web.Response]:
    """Yield Foundry's error responses: each repeats everything it was ever sent."""
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


async def foundry_refuses(sandbox: Sandbox) -> None:
    """Fail each call in turn in every way, then let it hang, then accept it."""
    c = sandbox.canaries
    for call in ("create", "upload", "commit", "token"):
        left = list(refusals(c))[:: 1 if call == "upload" else 6]

        def refuse(what, _request, *, left=left, call=call):
            return left.pop() if left and what == call else None

        sandbox.emulators.before = refuse
        if call == "token":
            sandbox.emulators.foundry.revoke_tokens()
        token = sandbox.token(f"auth0|{c['sub of ' + call]}")
        for number in range(len(left)):
            rows = sample(c, f"refused {call}", number=number)
            await sandbox.post(rows, token, Prefer="respond-async")
        with anyio.fail_after(SECONDS):
            while left:
                await anyio.sleep(0.05)
    await sandbox.emulators.clear_faults()
    sandbox.emulators.set_faults(Fault(call="upload", kind="latency", seconds=3.0))
    await sandbox.post(sample(c, "hangs"), token, Prefer="respond-async")
    await sandbox.drained()


async def poison(sandbox: Sandbox) -> None:
    """Have an export rejected for good: it is set aside, inspected and replayed."""
    c = sandbox.canaries
    mark = c["sub poison"]

    def refuse(what: str, request: web.Request) -> web.Response | None:
        told = {"errorName": "Default:Poison", "parameters": {"path": request.path, "x": mark}}
        is_it = what == "upload" and mark in request.path
        return web.json_response(told, status=413) if is_it else None

    sandbox.emulators.before = refuse
    await sandbox.post(sample(c, "poison"), sandbox.token(f"auth0|{mark}"), Prefer="respond-async")
    await sandbox.wait_for_counts(set_aside=1)
    found = (await sandbox.query_operator("GET", "/exports?status=set_aside")).body["entries"][0]
    await sandbox.atlas("exports", "show", found["receipt"]["id"])
    await sandbox.atlas("exports", "list", "--status", "set_aside")
    await sandbox.atlas("person", "show", "-", input=f"auth0|{mark}\n")
    await sandbox.emulators.clear_faults()
    await sandbox.atlas("exports", "replay", "--all")
    await sandbox.drained()
    await sandbox.wait_for_counts(committed=1)


def no_transaction(what: str, _request: web.Request) -> web.Response | None:
    return web.Response(status=503) if what == "create" else None


async def kill_and_damage(sandbox: Sandbox) -> None:
    """Kill Atlas while much is waiting, and damage the journal on disk.

    No transaction of ours is open: ending a forgotten one is up to Foundry's operators.
    """
    c = sandbox.canaries
    sandbox.emulators.before = no_transaction
    for number in range(12):
        token = sandbox.token(f"auth0|{c['sub waits']}{number}")
        await sandbox.post(sample(c, f"waits {number}"), token, Prefer="respond-async")
    sandbox.record_files()
    await sandbox.wait_for_exit(signal.SIGKILL)
    sandbox.record_files()
    chance = random.Random(c.seed)
    for file in (sandbox.journal, sandbox.journal.with_name("journal.db-wal")):
        text = bytearray(file.read_bytes())
        for _ in range(DAMAGE):
            text[chance.randrange(len(text) // 2, len(text))] ^= 1
        file.write_bytes(text)


async def crashes(sandbox: Sandbox) -> None:
    """Crash a stage on one export, at first, with a bug that quotes its input."""
    c = sandbox.canaries
    since = len(sandbox.log)
    await sandbox.start(IN_FLATTEN, "1")
    assert "Journal damaged" in sandbox.log[since:]
    token = sandbox.token(f"auth0|{c['sub crash']}")
    breaks = sample(c, "crash").replace(b"{", b'{"says":' + FAULT_MARKER + b",", 1)
    for _ in range(2):
        assert (await sandbox.post(breaks, token)).status == 202
    aside = (await sandbox.query_operator("GET", "/exports?status=set_aside&limit=50")).body[
        "entries"
    ]
    id = next(
        each["receipt"]["id"] for each in aside if each["reason"] and "crash" in each["reason"]
    )
    await sandbox.atlas("exports", "show", id)
    await sandbox.atlas("exports", "replay", id)
    sandbox.record_files()
    await sandbox.emulators.clear_faults()
    await sandbox.drained()
    assert await sandbox.wait_for_exit(signal.SIGTERM) == 0
    sandbox.record_files()


async def bugs_to_the_end(sandbox: Sandbox) -> None:
    """Crash every call of every component until the service gives up."""
    c = sandbox.canaries
    since = len(sandbox.log)
    await sandbox.start(EVERYWHERE, "1")
    token = sandbox.token(f"auth0|{c['sub of the end']}")
    assert sandbox.process is not None
    with anyio.fail_after(60):
        while sandbox.process.returncode is None:
            try:
                await sandbox.post(sample(c, "at the end"), token)
            except (OSError, aiohttp.ClientError):
                await anyio.sleep(0.1)
    assert await sandbox.wait_for_exit() != 0
    assert "Ended by a bug" in sandbox.log[since:]


async def without_keys(sandbox: Sandbox) -> None:
    """Have Auth0 redirect, so that no token can be verified, then accept too many requests."""
    c = sandbox.canaries
    sandbox.environ["ATLAS_RATE_PER_MINUTE"] = "1"
    sandbox.emulators.tenant.outage = Outage(status=302)
    await sandbox.start_unready()
    token = sandbox.token(f"auth0|{c['sub unknown']}")
    assert (await sandbox.post(sample(c, "unknown"), token)).status == 503
    sandbox.emulators.tenant.outage = Outage(on=False)
    with anyio.fail_after(SECONDS):
        while (await sandbox.post(sample(c, "often"), token)).status != 429:
            await anyio.sleep(0.1)


async def erase_person(sandbox: Sandbox) -> None:
    """Finally erase a person, and abort the process with everything that it has in memory."""
    c = sandbox.canaries
    sandbox.dataset = sandbox.committed()
    forget = ("person", "erase", "-", "--yes", "--receipt", "receipt.json")
    assert "Removed" in await sandbox.atlas(*forget, input=f"auth0|{c['sub ada']}\n")
    await sandbox.wait_for_exit(signal.SIGABRT)
    assert "Fatal Python error: Aborted" in sandbox.log


async def run_all_scenarios(sandbox: Sandbox) -> None:
    """Run all scenarios, with a kill, a crash and an abort in between."""
    await sandbox.start()
    await good_exports(sandbox)
    await bad_requests(sandbox)
    await bad_tokens(sandbox)
    await operators(sandbox)
    check_worker_environment(sandbox)
    await foundry_refuses(sandbox)
    await poison(sandbox)
    await kill_and_damage(sandbox)
    await crashes(sandbox)
    await bugs_to_the_end(sandbox)
    await without_keys(sandbox)
    await erase_person(sandbox)
    sandbox.record_files()


def check_worker_environment(sandbox: Sandbox) -> None:
    """Workers inherit the environment of their parent, and nothing else."""
    assert sandbox.process is not None
    workers = children(sandbox.process.pid)
    assert workers
    for worker in workers:
        assert environ_of(worker) - environ_of(sandbox.process.pid) == set()
