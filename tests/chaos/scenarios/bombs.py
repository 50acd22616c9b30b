"""Bodies that are little and become much, and JSON that no parser likes."""

import gzip
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import anyio
import msgspec

from tests.chaos.clients import SAFE, Export, build_record, wrap
from tests.chaos.oracle import derive_uuid
from tests.chaos.process_metrics import PEAK_FIELD, ProcessMetrics
from tests.chaos.raw_http import EXPORT, RawHttpClient, TimedResponse
from tests.chaos.trial_environment import MIB, PEAK_MIB, TrialEnvironment
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


def build_whole(encoding: str, body: bytes) -> Bomb:
    return Bomb(encoding, lambda: [body])


def build_bombs() -> dict[str, Bomb]:
    zeros = gzip.compress(ZEROS * BOMB_MIB, compresslevel=9)
    return {
        "zeros": build_whole("gzip", zeros),
        "gzip in gzip": build_whole("gzip", gzip.compress(zeros)),
        "told twice": build_whole("gzip, gzip", gzip.compress(zeros)),
        "truncated": build_whole("gzip", gzip.compress(b'{"uuid":"a"}\n' * 1_000)[:-9]),
        "endless": Bomb("gzip", endless_zeros),
        "deflate": build_whole("deflate", zlib.compress(ZEROS * BOMB_MIB, 9)),
        "zstd": build_whole("zstd", zstd.compress(ZEROS * BOMB_MIB, 19)),
        "zstd, a huge window": build_whole("zstd", build_huge_window()),
        "members": build_whole("gzip", gzip.compress(b"") * 50_000),
    }


def endless_zeros() -> Iterator[bytes]:
    """Zeros for as long as they are taken."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(ENDLESS_MIB):
        yield squeezed.compress(ZEROS) or squeezed.flush(zlib.Z_SYNC_FLUSH)


def build_huge_window() -> bytes:
    squeezed = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: WINDOW_LOG})
    return squeezed.compress(ZEROS * BOMB_MIB) + squeezed.flush()


async def send_bombs(bench: TrialEnvironment) -> None:
    """Each as JSON and as a stream: refused before it is large, by whoever has sent enough."""
    await bench.atlas.start()
    await warm_up(bench)
    vitals, token = (
        ProcessMetrics(bench.atlas.process.pid),
        bench.emulators.issue_token("auth0|bomber"),
    )
    latest, most, expect, all_of_them = 0.0, 0.0, bench.findings.check, build_bombs()
    for kind in (JSON, NDJSON):
        for name, bomb in all_of_them.items():
            before = vitals.measure()
            vitals.reset_peak()
            status, seconds = await send_bomb(bench, token, kind, bomb)
            grown = vitals.measure(PEAK_FIELD) - before
            latest, most = max(latest, seconds), max(most, grown)
            what = f"{name}, {kind}"
            expect(status in REFUSED, f"{what}: answered {status}.")
            expect(grown <= GROWN_MIB, f"{what}: memory {grown:+.0f} MiB.")
            if bench.scale.is_full:
                expect(seconds <= ANSWER_SECONDS, f"{what}: answered in {seconds * 1000:.0f} ms.")
    bench.findings.add_fact(
        f"{2 * len(all_of_them)} bombs, answered in {latest * 1000:.0f} ms, memory {most:+.0f} MiB"
    )


async def warm_up(bench: TrialEnvironment) -> None:
    """What Atlas takes into memory once, it has taken."""
    warm = Export.generate("warm", "auth0|bomber", bench.rng, lines=WARM_LINES)
    while (await bench.clients.stream(warm)).status not in {200, 202}:
        await anyio.sleep(AGAIN_SECONDS)


async def send_bomb(
    bench: TrialEnvironment, token: str, kind: str, bomb: Bomb
) -> tuple[int, float]:
    """The status, and how long after the last byte that was sent it came."""
    sockets, sent_at = RawHttpClient(bench.clients.url), time.perf_counter()

    def note_last_byte() -> Iterator[bytes]:
        nonlocal sent_at
        for chunk in bomb.pieces():
            yield chunk
            sent_at = time.perf_counter()

    head = sockets.build_head(EXPORT, token, (), Content_Type=kind, Content_Encoding=bomb.encoding)
    response = await sockets.post(head, note_last_byte(), GIVE_UP_SECONDS)
    seconds = time.perf_counter() - sent_at
    sockets.close()
    return response.status, seconds


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line between two good ones; `is_bad`: it is none that can be read."""

    text: bytes
    is_bad: bool = True


def build_lines() -> dict[str, MalformedLine]:
    """What stands in the place of a line."""
    return {
        "100,000 deep": MalformedLine(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH),
        "an array, 100,000 deep": MalformedLine(b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}"),
        "unended, 100,000 deep": MalformedLine(b'{"a":' * DEPTH),
        "5,000 digits": MalformedLine(b'{"value":' + b"1" * DIGITS + b"}"),
        "1e400": MalformedLine(b'{"value":1e400}'),
        "lone surrogate": MalformedLine(b'{"unit":"\\ud800"}'),
        "NUL": MalformedLine(b'{"unit":"\0"}'),
        "byte order mark": MalformedLine(b'\xef\xbb\xbf{"unit":"m"}'),
        "no UTF-8": MalformedLine(b'{"unit":"\xff"}'),
        "10 MB": MalformedLine(b'{"unit":"' + b"m" * LONG_BYTES + b'"}'),
        "a million blank lines": MalformedLine(b"\n" * BLANKS, is_bad=False),
    }


def build_fields() -> dict[str, bytes]:
    """What stands in the manifest of an export."""
    return {name: line.text for name, line in build_lines().items() if line.is_bad}


class RejectedLine(msgspec.Struct):
    line: int


class Received(msgspec.Struct):
    """What is read of the answer to an export, and of one to a stream, which has several."""

    records_ingested: int = 0
    rejects: tuple[RejectedLine, ...] = ()
    upload_results: tuple["Received", ...] = ()

    @property
    def ingested(self) -> int:
        return self.records_ingested + sum(part.ingested for part in self.upload_results)

    @property
    def rejected(self) -> list[int]:
        """The lines."""
        lines = [each.line for each in self.rejects]
        return lines + [line for part in self.upload_results for line in part.rejected]


async def send_json_bombs(bench: TrialEnvironment) -> None:
    """As a line between two good ones, in JSON and streamed, and in the manifest beside them."""
    await bench.atlas.start()
    vitals = ProcessMetrics(bench.atlas.process.pid)
    vitals.reset_peak()
    for name, line in build_lines().items():
        for kind in (JSON, NDJSON):
            text, export = build_export(bench, line.text)
            response = await post_export(
                bench, export, text if kind == NDJSON else wrap(text), kind
            )
            check_line(bench, f"{name}, {kind}", line, response)
    for name, value in build_fields().items():
        text, export = build_export(bench, b"")
        body = wrap(text)[:-1] + b',"manifest":' + value + b"}"
        response = await post_export(bench, export, body, JSON)
        is_told = response.status in {200, 202, *REFUSED}
        bench.findings.check(is_told, f"{name} in the manifest: answered {response.status}.")
    peak = vitals.measure(PEAK_FIELD)
    bench.findings.add_fact(
        f"{len(build_lines())} lines and {len(build_fields())} manifests, memory {peak:.0f} MiB"
    )
    bench.findings.check(peak <= PEAK_MIB, f"{peak:.0f} MiB in memory.")


def build_export(bench: TrialEnvironment, line: bytes) -> tuple[bytes, str]:
    """The text of an export, and its name."""
    name = f"between-{bench.clients.numbers()}"
    good = [build_record(derive_uuid(name, number), bench.rng) for number in range(2)]
    bench.oracle.record_sent(name, len(good))
    return good[0] + b"\n" + line + b"\n" + good[1] + b"\n", name


async def post_export(
    bench: TrialEnvironment, export: str, body: bytes, kind: str, user: str = "auth0|bomber"
) -> TimedResponse:
    sockets, token = RawHttpClient(bench.clients.url), bench.emulators.issue_token(user)
    head = sockets.build_head(EXPORT, token, body, Content_Type=kind)
    response = await sockets.post(head, body)
    while response.status == 503:  # the first one finds no worker yet
        await anyio.sleep(AGAIN_SECONDS)
        response = await sockets.post(head, body)
    sockets.close()
    if response.status not in {200, 202}:
        bench.oracle.given_up.add(export)
    else:
        reply = SAFE if kind == NDJSON else response.to_answer.reply
        bench.oracle.sent[export].reply = reply
    return response


def check_line(
    bench: TrialEnvironment, what: str, line: MalformedLine, response: TimedResponse
) -> None:
    """A bad line is rejected alone, by its number, a blank one is none; a long one is too much."""
    if response.status == 413 and len(line.text) > MIB:
        return
    expect = bench.findings.check
    expect(response.status in {200, 202}, f"{what}: answered {response.status}.")
    if response.status in {200, 202}:
        received = msgspec.json.decode(response.body, type=Received)
        is_right = received.rejected == ([2] if line.is_bad else [])
        expect(is_right, f"{what}: rejected are lines {received.rejected}.")
        expect(received.ingested == 2, f"{what}: {received.ingested} ingested.")
