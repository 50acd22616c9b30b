"""A URL of the old service may be spelled in several ways, and each names the same route."""

import io
import json

import anyio
import pytest

from atlas.core.events import RequestsShed
from atlas.core.identifiers import API_PREFIX
from atlas.edge.admission import MIN_IN_FLIGHT
from atlas.outside.log import EventLog, build_logger
from tests.conftest import an_export
from tests.support.listeners import ADA, HOST, SENDING, Reply, listening

EXPORT, RECEIPTS = f"{API_PREFIX}/export", f"{API_PREFIX}/exports"
UPLOADS = (EXPORT, f"{API_PREFIX}/ingest", f"{API_PREFIX}/export/batch")
OPEN = ("/", "/health", "/health/live", "/health/ready", "/openapi.json")


def swap_case(path: str) -> str:
    return "".join(c.upper() if at % 2 else c for at, c in enumerate(path))


SPELLINGS = {
    "as documented": str,
    "a slash at the end": lambda path: path + "/",
    "two slashes at the end": lambda path: path + "//",
    "two slashes at the start": lambda path: "/" + path,
    "doubled slashes": lambda path: path.replace("/", "//"),
    "many slashes": lambda path: path.replace("/", "////") + "//",
    "capitals": str.upper,
    "mixed case": swap_case,
    "all at once": lambda path: swap_case(path).replace("/", "//") + "/",
    "an empty query": lambda path: path + "?",
    "a query that nobody reads": lambda path: path + "/?Limit=0&a=%zz",
    "a fragment": lambda path: path + "#part",
    "a whole URL": lambda path: "http://atlas.test" + path + "/",
    "encoded letters": lambda path: path.replace("e", "%65").replace("E", "%45"),
    "encoded capitals": lambda path: path.replace("h", "%48"),
    "encoded slashes": lambda path: "/" + path[1:].replace("/", "%2F"),
}


@pytest.mark.parametrize("path", UPLOADS)
async def test_an_upload_is_taken_at_every_spelling_of_its_url(life, path):
    batch = path.endswith("batch")
    async with listening(life) as server:
        for number, (name, spell) in enumerate(SPELLINGS.items()):
            export = an_export(b'{"uuid":"%02d"}' % number)
            body = json.dumps({"chunks": [export]} if batch else export).encode()
            answer = await server.send("POST", spell(path), SENDING, body)
            assert answer.status == 200, (name, answer.text)
            assert "location" not in answer.headers, "a redirect would lose the body"

    assert life.dataset.uuids() == [f"{number:02}" for number in range(len(SPELLINGS))]


@pytest.mark.parametrize("path", OPEN)
async def test_health_and_the_description_are_found_at_every_spelling(life, path):
    async with listening(life) as server:
        expected = await server.send("GET", path, HOST)
        for name, spell in SPELLINGS.items():
            answer = await server.send("GET", spell(path), HOST)
            assert answer.status == 200, name
            assert answer.body.keys() == expected.body.keys(), name


async def test_a_list_of_receipts_is_found_at_every_spelling(life):
    async with listening(life) as server:
        await server.post(an_export())
        for name, spell in SPELLINGS.items():
            answer = await server.send("GET", spell(RECEIPTS), ADA)
            assert (answer.status, len(answer.body["receipts"])) == (200, 1), name


@pytest.mark.parametrize("key", [None, "k"])
async def test_the_id_of_a_receipt_keeps_its_case_at_every_spelling(life, key):
    lines = SENDING | {"content-type": "application/x-ndjson", "idempotency-key": "A"}
    async with listening(life) as server:
        sent = await server.send("POST", EXPORT, lines if key else SENDING, UPLOAD[key])
        id = sent.body["receipt_id"]
        for name, spell in SPELLINGS.items():
            path = spell(f"{RECEIPTS}/")
            if path.endswith(("/", "%2F")):
                found = await server.send("GET", f"{path}{id}/", ADA)
                assert (found.status, found.body["receipt_id"]) == (200, id), name
        other = await server.send("GET", f"{RECEIPTS}/{id.upper()}", ADA)

    assert (other.status, id != id.upper()) == (404, True), "an id is compared as it is"


UPLOAD = {None: json.dumps(an_export()).encode(), "k": b'{"uuid":"a"}\n'}


@pytest.mark.parametrize(
    "path",
    [
        f"{API_PREFIX}/./export",
        f"{API_PREFIX}/x/../export",
        f"{EXPORT};version=1",
        f"{EXPORT}%20",
        f"{EXPORT}%00",
        f"{EXPORT}%3F",
        f"{API_PREFIX}\\export",
        f"{API_PREFIX}/exporT".replace("exporT", "e%CC%81xport"),
        API_PREFIX.replace("k", "%E2%84%AA") + "/export",  # the Kelvin sign, in lower case a k
        API_PREFIX.replace("i", "%C4%B0") + "/export",  # a capital I with a dot
        API_PREFIX,
        f"{API_PREFIX}/",
        f"/x{EXPORT}",
        f"{EXPORT}/x",
        f"{EXPORT}/x/",
    ],
)
async def test_what_the_old_service_did_not_take_is_not_found(life, path):
    async with listening(life) as server:
        answer = await server.send("POST", path, SENDING, UPLOAD[None])

    assert (answer.status, answer.code) == (404, "NOT_FOUND")
    assert life.dataset.transactions == {}


@pytest.mark.parametrize("path", ["/a/b", "/a/", "/a%2Fb", "/%zz", "/%"])
async def test_an_id_that_is_none_is_not_found(life, path):
    async with listening(life) as server:
        answer = await server.send("GET", RECEIPTS + path, ADA)

    assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "//HEALTH/", 200, None),
        ("HEAD", RECEIPTS, 200, None),
        ("HEAD", EXPORT, 405, "POST"),
        ("GET", f"{EXPORT.upper()}/", 405, "POST"),
        ("PUT", f"/{EXPORT}", 405, "POST"),
        ("OPTIONS", f"{EXPORT}/", 405, "POST"),
        ("TRACE", "/health", 405, "GET, HEAD"),
        ("POST", "/Health", 405, "GET, HEAD"),
    ],
)
async def test_another_method_is_answered_alike_at_every_spelling(
    life, method, path, status, allow
):
    async with listening(life) as server:
        if method == "HEAD":
            answer = await head(server.port, path)
        else:
            answer = await server.send(method, path, ADA)

    assert answer.status == status
    assert answer.headers.get("allow") == allow


async def head(port, path):
    """Send a HEAD request, whose response has no body in spite of its length."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        request = f"HEAD {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer token-of-ada\r\n\r\n"
        await stream.send(request.encode())
        text = (await stream.receive()).decode()
    first, *lines = text.rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Reply(int(first.split()[1]), headers, b"")


async def test_the_log_has_the_canonical_route_and_not_the_spelling(life):
    log = io.StringIO()
    life.readers = {"log": EventLog(build_logger(log, "debug", "json"), b"k" * 32)}
    async with listening(life) as server:
        await server.send("POST", f"/{EXPORT.upper()}//", SENDING, UPLOAD[None])
        await server.send("GET", f"//{RECEIPTS.upper()}/Abc/", ADA)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    answered = [line for line in lines if line["message"] == "Request answered"]

    assert [line["route"] for line in answered] == [EXPORT, f"{RECEIPTS}/{{id}}"]
    assert "EXPORT" not in log.getvalue()


async def test_an_overloaded_service_refuses_uploads_at_every_spelling_and_counts_one_path(life):
    async def stuck(work, /, *args):
        await anyio.sleep_forever()

    life.reply_seconds, life.drain_seconds, life.compute = 0.4, 0.03, stuck
    async with life.running() as flow, anyio.create_task_group() as tasks:
        for _ in range(MIN_IN_FLIGHT):
            tasks.start_soon(flow.post, an_export())
        await anyio.sleep(0.25)  # the flow has stood still for longer than requests may wait
        answer = await flow.send("POST", f"/{EXPORT.upper()}/", "token-of-ada", b"{}")
        await flow.seen.wait_for(RequestsShed)
        (shed,) = flow.seen.of(RequestsShed)

    assert (answer.status, answer.body_was_read) == (503, False)
    assert shed.routes == {EXPORT: 1}
