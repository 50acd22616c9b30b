"""The reference client against the real service and against misbehaving servers."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import anyio
import msgspec
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.client import LineAccounting, open_client
from atlas.client.batches import (
    CHUNK_BYTES_MAX,
    CHUNK_LINES_MAX,
    CHUNKS_MAX,
    batches,
    split_chunks,
)
from atlas.client.replies import RetryLater, parse_response
from atlas.client.sending import BATCH, CONCURRENCY, GIVE_UP_SECONDS, TRIES, backoff, retry_delay
from atlas.core import ndjson, rows
from atlas.settings import ExportSettings
from tests.conftest import ServiceHarness
from tests.support.fakes import at_once
from tests.support.listeners import listening
from tests.support.replies import Mood, hangs_up, says

BOM = b"\xef\xbb\xbf"
FULL = CHUNK_LINES_MAX * CHUNKS_MAX  # short lines in a batch
BACKOFF = pytest.approx(4.5, abs=0.5)  # delay before the fourth attempt: 4 s, up to 1 s of jitter


def records(count: int, first: int = 0) -> list[bytes]:
    return [b'{"uuid":"%d"}\n' % number for number in range(first, first + count)]


def a_line(size: int) -> bytes:
    return b'{"uuid":"a"%b}\n' % (b" " * (size - 13))


async def upload_file(
    url: str, lines, token="token-of-ada", device=None, sleep=anyio.sleep
) -> LineAccounting:
    """Upload a file and return the client's report."""
    balance = LineAccounting()
    async with open_client(url, token, device, sleep) as client:
        await client.send(lines, balance)
    assert balance.is_balanced
    return balance


# cutting a file into batches


def test_the_same_file_gives_the_same_batches_and_keys_however_often_it_is_read():
    lines = [*records(FULL + 5), b"\n", *records(1)]

    first, again = list(batches(lines)), list(batches(iter(lines)))

    assert first == again
    assert [each.idempotency_key("a") for each in first] == [
        each.idempotency_key("a") for each in again
    ]


@pytest.mark.parametrize(
    ("lines", "device"),
    [
        pytest.param(records(2)[::-1], None, id="another order"),
        pytest.param(records(3), None, id="one line more"),
        pytest.param([*records(2), b"\n"], None, id="a blank line more"),
        pytest.param(records(2), "Watch", id="another device"),
    ],
)
def test_what_is_another_export_for_the_service_has_another_key(lines, device):
    (here,), (there,) = batches(records(2)), batches(lines)

    assert here.idempotency_key(None) != there.idempotency_key(device)


def test_no_two_cuts_of_the_same_text_share_a_key():
    (one,) = batches(records(CHUNK_LINES_MAX))
    (two,) = batches([b"\n", *records(CHUNK_LINES_MAX)])
    (three,) = batches([*records(CHUNK_LINES_MAX), b"{}\n"])

    assert (
        len({one.idempotency_key(None), two.idempotency_key(None), three.idempotency_key(None)})
        == 3
    )


@pytest.mark.parametrize(
    ("lines", "chunks"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([b"\n", b" \r\n", b"\t"], [], id="only blank lines"),
        pytest.param([BOM], [], id="only a byte order mark"),
        pytest.param([BOM + b"\n", b"{}"], [(1, 1)], id="a byte order mark on a blank line"),
        pytest.param([b"{}"], [(1, 1)], id="no line end"),
        pytest.param(records(1_000), [(1_000, 1)], id="as many lines as go in"),
        pytest.param(records(1_001), [(1_000, 1), (1, 1_001)], id="one more"),
        pytest.param(
            [b"\n", *records(1_000), b"\n", b"{}\n"],
            [(1_000, 1), (1, 1_002)],
            id="blank lines are no records but have numbers",
        ),
        pytest.param([a_line(262_144)] * 2, [(2, 1)], id="as many bytes as go in"),
        pytest.param([a_line(262_144), a_line(262_145)], [(1, 1), (1, 2)], id="a byte more"),
        pytest.param(
            [b"{}\n", a_line(600_000), b"{}\n"],
            [(1, 1), (1, 2), (1, 3)],
            id="a line longer than a chunk is one",
        ),
        pytest.param([b" " * 524_288, b"{}\n"], [(1, 2)], id="a blank line longer than a chunk"),
    ],
)
def test_a_chunk_is_cut_at_a_thousand_records_or_half_a_mebibyte(lines, chunks):
    assert [(chunk.records, chunk.first) for chunk in split_chunks(lines)] == chunks


@pytest.mark.parametrize(
    ("lines", "batched"),
    [
        pytest.param(records(FULL), [8], id="eight chunks"),
        pytest.param(records(FULL + 1), [8, 1], id="one more"),
        pytest.param([a_line(524_288)] * 9, [8, 1], id="four mebibytes"),
        pytest.param([a_line(3_000_000), a_line(1_000_000), b"{}\n"], [3], id="long lines"),
        pytest.param([a_line(3_000_000), a_line(1_200_000), b"{}\n"], [1, 2], id="longer ones"),
        pytest.param([b"{}\n", a_line(5_000_000), b"{}\n"], [1, 1, 1], id="one longer than all"),
    ],
)
def test_a_batch_has_eight_chunks_at_most_and_no_more_bytes_than_the_service_takes(lines, batched):
    assert [len(batch.chunks) for batch in batches(lines)] == batched


SHORT = st.tuples(
    st.sampled_from([b"\n", b" \r\n", b"\x0b\n", b"{}\n", b'{"a":"\xe2\x80\x99"}\r\n', b"bad\n"]),
    st.integers(1, 1_200),
)
LONG = st.tuples(
    st.sampled_from([b" " * 600_000 + b"\n", a_line(100_000), a_line(524_288), a_line(600_000)]),
    st.integers(1, 3),
)
BYTES = st.one_of(
    st.binary(max_size=5),
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\x0b\n", b"\x85\n", b"\xc2\xa0\n", BOM, b"{}\n", b"{}\r\n"]
    ),
)
RUNS = st.lists(st.one_of(SHORT, SHORT, LONG), max_size=8)


@settings(max_examples=30, deadline=None)
@given(runs=RUNS, start=st.sampled_from([b"", BOM]), end=st.sampled_from([b"", b"{}", b" "]))
def test_nothing_but_blank_lines_is_left_out_and_every_chunk_knows_where_it_begins(
    runs, start, end
):
    lines = list(BytesIO(start + b"".join(line * count for line, count in runs) + end))

    upto = 0
    for chunk in [chunk for batch in batches(lines) for chunk in batch.chunks]:
        count = len(chunk.text.split(b"\n")) - chunk.text.endswith(b"\n")
        begin = chunk.first - 1
        assert not b"".join(lines[upto:begin]).removeprefix(BOM).strip()
        assert chunk.text == b"".join(lines[begin : begin + count])
        assert chunk.records <= CHUNK_LINES_MAX
        assert len(chunk.text) <= CHUNK_BYTES_MAX or count == 1
        upto = begin + count
    assert not b"".join(lines[upto:]).removeprefix(BOM).strip()


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(BYTES, st.integers(1, 3)), max_size=8),
    start=st.sampled_from([b"", BOM, BOM + b"\n"]),
)
def test_the_client_counts_the_records_of_a_chunk_as_the_service_does(runs, start):
    for chunk in split_chunks(BytesIO(start + b"".join(line * count for line, count in runs))):
        table = rows.flatten(ndjson.split_lines(chunk.text), rows.Header("ada", "", "", ""))
        assert chunk.records == table.ingested + table.rejected


# against the real service


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(tmp_path / "journal", journal_bytes_max=100_000_000)


@asynccontextmanager
async def atlas(life):
    async with listening(life) as server:
        yield f"http://127.0.0.1:{server.port}/"


AWKWARD = [BOM + b'{"uuid":"first"}\r\n', b"\n", b"bad\n", *records(2_500), b"[]\n", b" \n", b"{"]


async def test_every_line_of_a_file_is_a_row_or_a_reject(life):
    async with atlas(life) as url:
        balance = await upload_file(url, AWKWARD)

    assert (balance.read, balance.committed, balance.rejected) == (2_504, 2_501, 3)
    assert (balance.accepted, balance.unsent, balance.last_error) == (0, 0, None)
    assert balance.bytes == len(b"".join(AWKWARD))
    assert life.dataset.uuids() == sorted(["first", *map(str, range(2_500))])


async def test_a_reject_carries_the_number_of_its_line_in_the_whole_file(life):
    async with atlas(life) as url:
        balance = await upload_file(url, AWKWARD)

    assert balance.rejects == [
        (3, "not valid JSON"),
        (2_504, "not a JSON object"),
        (2_506, "not valid JSON"),
    ]


async def test_of_many_rejects_the_first_are_told_and_all_counted(life):
    lines = records(30)
    lines[5:30] = [b"bad\n"] * 25
    async with atlas(life) as url:
        balance = await upload_file(url, lines * 2)

    assert balance.rejected == 50
    assert [line for line, _ in balance.rejects] == list(range(6, 26))


async def test_a_file_that_is_sent_again_adds_nothing(life):
    async with atlas(life) as url:
        await upload_file(url, AWKWARD)
        before = dict(life.dataset.files())
        again = await upload_file(url, AWKWARD)

    assert again.replayed == again.committed == 2_501
    assert life.dataset.files() == before


async def test_a_file_that_has_grown_adds_only_what_is_new(life):
    async with atlas(life) as url:
        await upload_file(url, records(FULL))
        grown = await upload_file(url, records(FULL + 7))

    assert (grown.committed, grown.replayed) == (FULL + 7, FULL)
    assert len(life.dataset.rows()) == FULL + 7


async def test_the_same_file_of_another_device_is_another_file(life):
    async with atlas(life) as url:
        await upload_file(url, records(3))
        other = await upload_file(url, records(3), device="Watch")

    assert (other.committed, other.replayed, other.last_error) == (3, 0, None)
    assert sorted({row["device"] for row in life.dataset.rows()}) == ["Watch", "iPhone"]


async def test_a_line_longer_than_a_chunk_comes_through_between_its_neighbours(life):
    lines = [b'{"uuid":"b"}\n', a_line(CHUNK_BYTES_MAX * 2), b'{"uuid":"c"}\n']
    async with atlas(life) as url:
        balance = await upload_file(url, lines)

    assert balance.committed == 3
    assert life.dataset.uuids() == ["a", "b", "c"]


async def test_a_chunk_without_a_good_line_is_rejected_and_the_others_are_not(life):
    async with atlas(life) as url:
        balance = await upload_file(
            url, [*records(1_000), *[b"bad\n"] * 1_000, *records(10, 1_000)]
        )

    assert (balance.committed, balance.rejected, balance.unsent) == (1_010, 1_000, 0)
    ((line, reason),) = balance.rejects
    assert line == 1_001
    assert reason.startswith("INVALID_NDJSON: ")
    assert reason.endswith(" This applies to all 1,000 lines from here.")


async def test_a_chunk_that_is_too_large_for_the_service_does_not_stop_the_file(life):
    life.export = ExportSettings(bytes_max=1_000_000)
    async with atlas(life) as url:
        balance = await upload_file(url, [*records(2), a_line(1_200_000), *records(2, 2)])

    assert (balance.committed, balance.rejected) == (4, 1)
    assert balance.rejects[0][0] == 3
    assert "CHUNK_TOO_LARGE" in balance.rejects[0][1]


async def test_what_is_safe_and_not_yet_committed_is_accepted(life):
    life.dataset.down, life.reply_seconds, life.drain_seconds = True, 0.2, 0.0
    async with atlas(life) as url:
        balance = await upload_file(url, records(5))

    assert (balance.accepted, balance.committed, balance.last_error) == (5, 0, None)


async def test_nothing_is_sent_of_a_file_without_records(life):
    async with atlas(life) as url:
        balance = await upload_file(url, [b"\n", b" \r\n"])

    assert balance == LineAccounting()
    assert life.dataset.transactions == {}


async def test_a_token_that_is_not_good_ends_it_with_the_reason(life):
    async with atlas(life) as url:
        balance = await upload_file(url, records(3), token="stolen")

    assert (balance.read, balance.unsent) == (3, 3)
    assert balance.last_error == "401 INVALID_TOKEN: The bearer token is not valid here."


# against misbehaving servers


def an_answer(body: bytes, status: int = 200) -> web.Response:
    """Return a response that says everything was committed."""
    results = [
        {
            "chunkIndex": index,
            "status": "committed",
            "records_ingested": chunk["recordCount"],
            "records_rejected": 0,
            "rejects": [],
            "replayed": False,
        }
        for index, chunk in enumerate(msgspec.json.decode(body)["chunks"])
    ]
    return web.json_response({"upload_results": results}, status=status)


async def good(_request, body):
    return an_answer(body)


def misses(**changes: object) -> Mood:
    """Return the good response with an error in its last chunk."""

    async def mood(_request, body):
        answer = msgspec.json.decode(an_answer(body).body)
        answer["upload_results"][-1].update(changes)
        return web.json_response(answer)

    return mood


async def breaks_off(request, _body):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"upload_results": [')
    request.transport.abort()
    return response


@dataclass
class ScriptedServer:
    """A server with scripted behavior for each request and all later ones; records requests."""

    behaviors: list[Mood]
    then: Mood = good
    sent: list[tuple[bytes, str | None]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.at.append(asyncio.get_running_loop().time())
        self.sent.append((body, request.headers.get("Idempotency-Key")))
        return await (self.behaviors.pop(0) if self.behaviors else self.then)(request, body)

    async def at_socket(self, aiohttp_server) -> str:
        app = web.Application(client_max_size=100_000_000)
        app.router.add_post(BATCH, self.take)
        return str((await aiohttp_server(app)).make_url("/"))


@pytest.mark.parametrize(
    "mood",
    [
        *[pytest.param(says(n), id=str(n)) for n in (408, 425, 429, 500, 502, 503, 504)],
        pytest.param(says(503, '{"error": "busy"}'), id="an error of another kind"),
        pytest.param(says(503, '{"a":' + "[" * 100_000), id="no end of brackets"),
        pytest.param(says(503, '{"error":{"code":"\xe9"}}', charset="latin-1"), id="no UTF-8"),
        pytest.param(hangs_up, id="a lost connection"),
        pytest.param(breaks_off, id="half an answer"),
    ],
)
async def test_the_same_body_is_sent_again_under_the_same_key(aiohttp_server, mood):
    moody = ScriptedServer([mood, mood])
    balance = await upload_file(await moody.at_socket(aiohttp_server), records(5), sleep=at_once)

    assert len(moody.sent) == 3
    assert len(set(moody.sent)) == 1
    assert moody.sent[0][1]
    assert (balance.read, balance.committed, balance.unsent) == (5, 5, 0)


async def test_the_reason_of_a_retry_is_told_before_it(aiohttp_server):
    moody, told, balance = (
        ScriptedServer([says(503, '{"error": {"code": "DRAINING"}}')]),
        [],
        LineAccounting(),
    )
    async with open_client(await moody.at_socket(aiohttp_server), "t", None, at_once) as client:
        await client.send(records(5), balance, told.append)

    assert told == ["503 DRAINING", ""]


@pytest.mark.slow
async def test_the_service_is_not_asked_again_before_it_wants_to_be(aiohttp_server):
    moody = ScriptedServer([says(503, Retry_After="1")])
    await upload_file(await moody.at_socket(aiohttp_server), records(1))

    first, second = moody.at
    assert second - first >= 1.0


@pytest.mark.parametrize(
    ("after", "waits"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(None, BACKOFF, id="as long as we think"),
        pytest.param("0", BACKOFF, id="no time to recover in"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", BACKOFF, id="a date"),
        pytest.param("-1", BACKOFF, id="no time that is"),
        pytest.param(str(int(GIVE_UP_SECONDS) + 1), None, id="longer than anybody waits"),
    ],
)
def test_when_to_try_again_is_for_the_service_to_say(after, waits):
    with pytest.raises(RetryLater) as again:
        parse_response(503, {} if after is None else {"Retry-After": after}, b"")

    assert retry_delay(again.value, 3) == waits


def test_waits_double_up_to_half_a_minute():
    waits = [backoff(number) for number in range(TRIES)]

    assert all(0.5 * 2**number <= wait for number, wait in enumerate(waits[:6]))
    assert 0.5 <= waits[0] <= 1.5
    assert waits[-1] == 30.0


async def test_in_the_end_it_gives_up_and_nothing_is_lost_from_the_balance(aiohttp_server):
    moody = ScriptedServer([], then=says(503, '{"error": {"code": "OVERLOADED"}}'))
    url = await moody.at_socket(aiohttp_server)
    balance = await upload_file(url, records(5), sleep=at_once)

    assert len(moody.sent) == TRIES
    assert (balance.read, balance.unsent) == (5, 5)
    assert balance.last_error == f"{url.rstrip('/')} did not accept it: 503 OVERLOADED."


async def test_where_nobody_listens_it_gives_up_and_says_where():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()

    balance = await upload_file(f"http://127.0.0.1:{port}", records(5), sleep=at_once)

    assert balance.unsent == 5
    assert f"127.0.0.1:{port}" in balance.last_error


ATLAS_SAYS = '{"error": {"code": "%s", "message": "%s", "retryable": false}}'
OF_NO_USE = [
    pytest.param(
        says(401, ATLAS_SAYS % ("TOKEN_EXPIRED", "Send a fresh one.")),
        "401 TOKEN_EXPIRED: Send a fresh one.",
        id="an expired token",
    ),
    pytest.param(
        says(422, ATLAS_SAYS % ("IDEMPOTENCY_KEY_REUSED", "Used.")),
        "422 IDEMPOTENCY_KEY_REUSED: Used.",
        id="a key of something else",
    ),
    pytest.param(says(413, "<html>"), "413: This is not Atlas.", id="a proxy's limit"),
    pytest.param(says(403, '{"error": "no"}'), "403: This is not Atlas.", id="a proxy's JSON"),
    pytest.param(says(404, "[1]"), "404: This is not Atlas.", id="a list"),
    pytest.param(says(501), "501: This is not Atlas.", id="not implemented"),
    pytest.param(says(200, "<html>"), "200: This is not Atlas.", id="a login page"),
    pytest.param(says(200, "{}"), "200: This is not Atlas.", id="another API"),
    pytest.param(
        says(301, Location="https://atlas.test/"),
        "301: Atlas is not at this address; it may be at https://atlas.test/.",
        id="moved",
    ),
    pytest.param(
        says(308, Location="/elsewhere"),
        "308: Atlas is not at this address; it may be at /elsewhere.",
        id="moved, body and all",
    ),
    pytest.param(
        says(200, '{"upload_results": []}'), "does not account for every line", id="no results"
    ),
    pytest.param(misses(chunkIndex=0), "does not account for every line", id="one twice"),
    pytest.param(misses(chunkIndex=2), "does not account for every line", id="one too many"),
    pytest.param(misses(chunkIndex=-1), "does not account for every line", id="one before all"),
    pytest.param(misses(records_ingested=4), "does not account for every line", id="a line less"),
    pytest.param(misses(records_rejected=1), "does not account for every line", id="a line more"),
    pytest.param(misses(status=None), "200: This is not Atlas.", id="no status"),
]


@pytest.mark.parametrize(("mood", "trouble"), OF_NO_USE)
async def test_what_will_never_work_is_not_tried_again_and_the_reason_is_told(
    aiohttp_server, mood, trouble
):
    moody = ScriptedServer([], then=mood)
    balance = await upload_file(
        await moody.at_socket(aiohttp_server), records(1_005), sleep=at_once
    )

    assert len(moody.sent) == 1
    assert trouble in balance.last_error
    assert (balance.read, balance.unsent) == (1_005, 1_005)


async def test_a_refused_batch_lets_the_others_finish_and_begins_no_more(aiohttp_server):
    balance = LineAccounting()

    async def once_the_other_is_refused(_request, body):
        while balance.last_error is None:
            await asyncio.sleep(0.001)
        return an_answer(body)

    moody = ScriptedServer([says(403)], then=once_the_other_is_refused)
    async with open_client(await moody.at_socket(aiohttp_server), "t", None, at_once) as client:
        await client.send(records(FULL * 6), balance)

    assert len(moody.sent) == CONCURRENCY
    assert (balance.committed, balance.unsent) == (FULL * (CONCURRENCY - 1), FULL)
    assert balance.read == FULL * CONCURRENCY


async def test_who_is_interrupted_sees_what_was_on_its_way(aiohttp_server):
    arrived = anyio.Event()

    async def only_the_short_one(_request, body):
        if len(body) > 10_000:
            arrived.set()
            await anyio.sleep_forever()
        return an_answer(body)

    moody, balance = ScriptedServer([], then=only_the_short_one), LineAccounting()
    async with (
        open_client(await moody.at_socket(aiohttp_server), "t", None) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.send, records(FULL + 7), balance)
        await arrived.wait()
        while not balance.committed:
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()

    assert (balance.read, balance.committed, balance.unsent) == (FULL + 7, 7, FULL)


async def test_a_file_that_ends_in_an_error_is_sent_as_far_as_it_could_be_read(aiohttp_server):
    def lines():
        yield from records(FULL + CHUNK_LINES_MAX + 5)
        raise OSError(5, "Input/output error")

    balance = await upload_file(await ScriptedServer([]).at_socket(aiohttp_server), lines())

    assert (balance.read, balance.committed) == (FULL, FULL)
    assert balance.last_error == "Cannot read all of the lines: Input/output error."


async def test_the_device_stands_in_every_chunk_and_a_timestamp_in_none(aiohttp_server):
    moody = ScriptedServer([])
    url = await moody.at_socket(aiohttp_server)
    await upload_file(url, records(1_001), device="Watch")
    await upload_file(url, records(1))

    (with_device, _), (without, _) = moody.sent
    chunks = msgspec.json.decode(with_device)["chunks"]
    assert [chunk.keys() for chunk in chunks] == [{"rawhealthkit", "recordCount", "device"}] * 2
    assert msgspec.json.decode(without)["chunks"][0].keys() == {"rawhealthkit", "recordCount"}
