"""Bodies that are little and become much, and JSON that no parser likes."""

import gzip
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import anyio
import msgspec

from tests.chaos.bench import MIB, PEAK_MIB, Bench
from tests.chaos.oracle import uuid_of
from tests.chaos.phones import SAFE, Export, record, wrapped
from tests.chaos.sockets import EXPORT, Heard, Sockets
from tests.chaos.vitals import PEAK, Vitals
from tests.support.zstandard import zstd

JSON, NDJSON = "application/json", "application/x-ndjson"
ZEROS = bytes(MIB)
BOMB_MIB, ENDLESS_MIB = 100, 4_096
ANSWER_SECONDS, GROWN_MIB = 0.2, 16.0
GIVE_UP_SECONDS, AGAIN_SECONDS = 30.0, 0.2
WARM_LINES = 25_000  # 12 MB
REFUSED = {400, 413, 415}
DEPTH, DIGITS, BLANKS, LONG_BYTES = 100_000, 5_000, 1_000_000, 10_000_000
WINDOW_LOG = 27  # of Zstandard: 128 MiB, which a frame may ask for


@dataclass(frozen=True, slots=True)
class Bomb:
    """What is sent, under which encoding."""

    encoding: str
    pieces: Callable[[], Iterable[bytes]]


def whole(encoding: str, body: bytes) -> Bomb:
    return Bomb(encoding, lambda: [body])


def bombs() -> dict[str, Bomb]:
    zeros = gzip.compress(ZEROS * BOMB_MIB, compresslevel=9)
    return {
        "zeros": whole("gzip", zeros),
        "gzip in gzip": whole("gzip", gzip.compress(zeros)),
        "told twice": whole("gzip, gzip", gzip.compress(zeros)),
        "truncated": whole("gzip", gzip.compress(b'{"uuid":"a"}\n' * 1_000)[:-9]),
        "endless": Bomb("gzip", endless),
        "deflate": whole("deflate", zlib.compress(ZEROS * BOMB_MIB, 9)),
        "zstd": whole("zstd", zstd.compress(ZEROS * BOMB_MIB, 19)),
        "zstd, a huge window": whole("zstd", huge_window()),
        "members": whole("gzip", gzip.compress(b"") * 50_000),
    }


def endless() -> Iterator[bytes]:
    """Zeros for as long as they are taken."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(ENDLESS_MIB):
        yield squeezed.compress(ZEROS) or squeezed.flush(zlib.Z_SYNC_FLUSH)


def huge_window() -> bytes:
    squeezed = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: WINDOW_LOG})
    return squeezed.compress(ZEROS * BOMB_MIB) + squeezed.flush()


async def inflated(bench: Bench) -> None:
    """Each as JSON and as a stream: refused before it is large, by whoever has sent enough."""
    await bench.atlas.start()
    await warm(bench)
    vitals, token = Vitals(bench.atlas.process.pid), bench.standins.token("auth0|bomber")
    latest, most, expect, all_of_them = 0.0, 0.0, bench.findings.expect, bombs()
    for kind in (JSON, NDJSON):
        for name, bomb in all_of_them.items():
            before = vitals.mib()
            vitals.forget_peak()
            status, seconds = await thrown(bench, token, kind, bomb)
            grown = vitals.mib(PEAK) - before
            latest, most = max(latest, seconds), max(most, grown)
            what = f"{name}, {kind}"
            expect(status in REFUSED, f"{what}: answered {status}.")
            expect(grown <= GROWN_MIB, f"{what}: memory {grown:+.0f} MiB.")
            if bench.scale.is_full:
                expect(seconds <= ANSWER_SECONDS, f"{what}: answered in {seconds * 1000:.0f} ms.")
    bench.findings.note(
        f"{2 * len(all_of_them)} bombs, answered in {latest * 1000:.0f} ms, memory {most:+.0f} MiB"
    )


async def warm(bench: Bench) -> None:
    """What Atlas takes into memory once, it has taken."""
    warm = Export.made("warm", "auth0|bomber", bench.chance, lines=WARM_LINES)
    while (await bench.phones.stream(warm)).status not in {200, 202}:
        await anyio.sleep(AGAIN_SECONDS)


async def thrown(bench: Bench, token: str, kind: str, bomb: Bomb) -> tuple[int, float]:
    """The status, and how long after the last byte that was sent it came."""
    sockets, sent_at = Sockets(bench.phones.url), time.perf_counter()

    def noted() -> Iterator[bytes]:
        nonlocal sent_at
        for piece in bomb.pieces():
            yield piece
            sent_at = time.perf_counter()

    head = sockets.head(EXPORT, token, (), Content_Type=kind, Content_Encoding=bomb.encoding)
    heard = await sockets.post(head, noted(), GIVE_UP_SECONDS)
    seconds = time.perf_counter() - sent_at
    sockets.close()
    return heard.status, seconds


@dataclass(frozen=True, slots=True)
class Line:
    """A line between two good ones; `is_bad`: it is none that can be read."""

    text: bytes
    is_bad: bool = True


def lines() -> dict[str, Line]:
    """What stands in the place of a line."""
    return {
        "100,000 deep": Line(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH),
        "an array, 100,000 deep": Line(b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}"),
        "unended, 100,000 deep": Line(b'{"a":' * DEPTH),
        "5,000 digits": Line(b'{"value":' + b"1" * DIGITS + b"}"),
        "1e400": Line(b'{"value":1e400}'),
        "lone surrogate": Line(b'{"unit":"\\ud800"}'),
        "NUL": Line(b'{"unit":"\0"}'),
        "byte order mark": Line(b'\xef\xbb\xbf{"unit":"m"}'),
        "no UTF-8": Line(b'{"unit":"\xff"}'),
        "10 MB": Line(b'{"unit":"' + b"m" * LONG_BYTES + b'"}'),
        "a million blank lines": Line(b"\n" * BLANKS, is_bad=False),
    }


def fields() -> dict[str, bytes]:
    """What stands in the manifest of an export."""
    return {name: line.text for name, line in lines().items() if line.is_bad}


class Told(msgspec.Struct):
    line: int


class Received(msgspec.Struct):
    """What is read of the answer to an export, and of one to a stream, which has several."""

    records_ingested: int = 0
    rejects: tuple[Told, ...] = ()
    upload_results: tuple["Received", ...] = ()

    @property
    def ingested(self) -> int:
        return self.records_ingested + sum(part.ingested for part in self.upload_results)

    @property
    def rejected(self) -> list[int]:
        """The lines."""
        mine = [each.line for each in self.rejects]
        return mine + [line for part in self.upload_results for line in part.rejected]


async def json_bombs(bench: Bench) -> None:
    """As a line between two good ones, in JSON and streamed, and in the manifest beside them."""
    await bench.atlas.start()
    vitals = Vitals(bench.atlas.process.pid)
    vitals.forget_peak()
    for name, line in lines().items():
        for kind in (JSON, NDJSON):
            text, export = between(bench, line.text)
            heard = await posted(bench, export, text if kind == NDJSON else wrapped(text), kind)
            judge_line(bench, f"{name}, {kind}", line, heard)
    for name, value in fields().items():
        text, export = between(bench, b"")
        body = wrapped(text)[:-1] + b',"manifest":' + value + b"}"
        heard = await posted(bench, export, body, JSON)
        is_told = heard.status in {200, 202, *REFUSED}
        bench.findings.expect(is_told, f"{name} in the manifest: answered {heard.status}.")
    peak = vitals.mib(PEAK)
    bench.findings.note(
        f"{len(lines())} lines and {len(fields())} manifests, memory {peak:.0f} MiB"
    )
    bench.findings.expect(peak <= PEAK_MIB, f"{peak:.0f} MiB in memory.")


def between(bench: Bench, line: bytes) -> tuple[bytes, str]:
    """The text of an export, and its name."""
    name = f"between-{bench.phones.numbers()}"
    good = [record(uuid_of(name, number), bench.chance) for number in range(2)]
    bench.oracle.leaves(name, len(good))
    return good[0] + b"\n" + line + b"\n" + good[1] + b"\n", name


async def posted(
    bench: Bench, export: str, body: bytes, kind: str, user: str = "auth0|bomber"
) -> Heard:
    sockets, token = Sockets(bench.phones.url), bench.standins.token(user)
    head = sockets.head(EXPORT, token, body, Content_Type=kind)
    heard = await sockets.post(head, body)
    while heard.status == 503:  # the first one finds no worker yet
        await anyio.sleep(AGAIN_SECONDS)
        heard = await sockets.post(head, body)
    sockets.close()
    if heard.status not in {200, 202}:
        bench.oracle.given_up.add(export)
    else:
        reply = SAFE if kind == NDJSON else heard.answer.reply
        bench.oracle.sent[export].reply = reply
    return heard


def judge_line(bench: Bench, what: str, line: Line, heard: Heard) -> None:
    """A bad line is rejected alone, by its number, a blank one is none; a long one is too much."""
    if heard.status == 413 and len(line.text) > MIB:
        return
    expect = bench.findings.expect
    expect(heard.status in {200, 202}, f"{what}: answered {heard.status}.")
    if heard.status in {200, 202}:
        found = msgspec.json.decode(heard.body, type=Received)
        is_right = found.rejected == ([2] if line.is_bad else [])
        expect(is_right, f"{what}: rejected are lines {found.rejected}.")
        expect(found.ingested == 2, f"{what}: {found.ingested} ingested.")
