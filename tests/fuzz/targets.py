"""What is fuzzed: pure functions that read what a stranger wrote, each beside what must hold of it.

A target takes any bytes. Only an error of Atlas may come of them; anything else is a find. Where
there is another reader of the same format, the two must agree.
"""

import base64
import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache

import msgspec
from joserfc import jws
from joserfc.jwk import RSAKey

from atlas.core import ndjson
from atlas.core.errors import AtlasError, Rejected
from atlas.core.messages import ExportMetadata, RawExport, Receipt, RowTable, User
from atlas.core.records import DEPTH_MAX, REASONS, Record
from atlas.core.rows import COLUMNS, Header, flatten
from atlas.edge import api_types
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import parse_json
from atlas.edge.content_encoding import RatioLimit, ZlibDecoder, ZstdDecoder
from atlas.edge.responses import build_export_reply
from atlas.local.auth0 import generate_key
from atlas.outside.auth0.tokens import TokenValidator, read_kid

Target = Callable[[bytes], None]

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HEAD = ExportMetadata(User("auth0|ada"), "iPhone", "T1", "correlation")
HEADER = Header("auth0|ada", "iPhone", "2026-01-02T12:00:00.000Z", "T1")
DECODED_BYTES_MAX, LINES_MAX = 64 * 1024, 500
CUTS = 1, 7, 4096
INFLATED_BYTES_MAX = 1024 * 1024
BATCHES = BatchParser(chunks_max=64)
ISSUER, AUDIENCE = "https://atlas.test/", "https://api.atlas.ai"
SURROGATE = re.compile(r"[\ud800-\udfff]")
BLANK = re.compile(rb"[\s\x0b\x0c]*")


class Pairs(list[tuple[str, object]]):
    """An object of JSON, with what came twice."""


class Differs(AssertionError):
    """Two readers do not agree, or a promise does not hold."""


def decode(found: bytes) -> None:
    """The body of an export: base64 as the standard library reads it, or refused."""
    try:
        text = ndjson.decode(RawExport(HEAD, found), DECODED_BYTES_MAX, LINES_MAX).text
    except AtlasError:
        return
    must(text == plain64(found), "it is other text than base64 says")
    balances(flatten(ndjson.split_lines(text), HEADER), text)


def plain64(found: bytes) -> bytes:
    standard = (
        re.sub(rb"[ \t\r\n]", b"", found).replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    )
    return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)


def lines(found: bytes) -> None:
    """Lines to rows: the usual way and the long one make the same, and `json` agrees on each."""
    split = ndjson.split_lines(found)
    table = flatten(split, HEADER)
    must(table == flatten(split, HEADER, read=the_long_way), "the two ways differ")
    balances(table, found)
    sound = [line for line in split if is_sound(line)]
    must(table.ingested == len(sound), "another reader of JSON takes other lines")
    for row, line in zip(table.ndjson.split(b"\n"), sound, strict=False):
        raw = json.loads(row)["raw_healthkit_record"]
        must(raw.encode() == line, "the record is not as it was sent")


def the_long_way(_line: bytes) -> Record:
    raise msgspec.DecodeError


def balances(table: RowTable, text: bytes) -> None:
    """received = ingested + rejected, and every row is one."""
    filled = sum(1 for line in ndjson.split_lines(text) if not BLANK.fullmatch(line))
    must(table.ingested + table.rejected == filled, "lines are missing")
    must(all(reject.reason in REASONS for reject in table.rejects), "a reason of its own")
    rows = table.ndjson.split(b"\n")[:-1]
    must(len(rows) == table.ingested, "rows are missing")
    for each in rows:
        row = json.loads(each)
        must(tuple(row) == COLUMNS, "it has other columns")
        value = row.pop("value_double")
        must(value is None or math.isfinite(value), "no number")
        must(all(isinstance(text, str) for text in row.values()), "no text")


def is_sound(line: bytes) -> bool:
    """Whether a line is a record, by the rules of the contract and another reader of JSON."""
    try:
        found = json.loads(line.decode(), parse_constant=refuse, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, Pairs) and has_good_values(found, DEPTH_MAX)


def refuse(constant: str) -> None:
    raise ValueError(constant)


def has_good_values(value: object, depth: int) -> bool:
    if isinstance(value, str):
        return not SURROGATE.search(value)
    if isinstance(value, int | float):
        with suppress(OverflowError):
            return math.isfinite(float(value))
        return False
    if isinstance(value, tuple):
        return all(has_good_values(each, depth) for each in value)
    if not isinstance(value, list):
        return True
    return depth > 0 and all(has_good_values(each, depth - 1) for each in value)


def token(found: bytes) -> None:
    """A token as it comes in a header; nothing that a stranger has written is good."""
    text = found.decode("latin-1")
    try:
        read_kid(text)
        rules().validate(text, key())
    except AtlasError:
        return
    raise Differs("a token that nobody has signed is good")


def signed(found: bytes) -> None:
    """A header and, behind the first line end, claims: any bytes under a good signature."""
    header, _, claims = found.partition(b"\n")
    said = f"{text64(header)}.{text64(claims)}"
    text = f"{said}.{text64(signer().sign(said.encode(), key()))}"
    try:
        read_kid(text)
        user, expires = rules().validate(text, key())
    except AtlasError:
        return
    must(bool(user.sub), "nobody's")
    user.sub.encode()
    must(math.isfinite(expires) and expires > NOON.timestamp() - 60, "it has expired")
    given = json.loads(claims)
    must((given["iss"], given["sub"]) == (ISSUER, user.sub), "another's")


def text64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@cache
def key() -> RSAKey:
    return generate_key()


@cache
def signer() -> jws.JWSAlgModel:
    return jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")


@cache
def rules() -> TokenValidator:
    return TokenValidator(ISSUER, AUDIENCE, lambda: NOON)


def deflated(found: bytes) -> None:
    """gzip and deflate: the same in any pieces, and as the standard library inflates it."""
    whole = inflated(ZlibDecoder, [found])
    for size in CUTS:
        must(inflated(ZlibDecoder, cut(found, size)) == whole, f"in pieces of {size} it differs")
    if whole is not None:
        must(whole == by_zlib(found), "another library makes something else of it")


def zstd(found: bytes) -> None:
    """Zstandard: whatever inflates, in any pieces, inflates to the same.

    Whether a broken one does may depend on them: a frame of another length than it says is noticed
    by libzstd in one piece, and not in many if its last block is empty.
    """
    made = [inflated(ZstdDecoder, cut(found, size)) for size in (len(found) or 1, *CUTS)]
    must(len({each for each in made if each is not None}) <= 1, "in other pieces it differs")


def cut(found: bytes, size: int) -> Iterable[bytes]:
    return (found[at : at + size] for at in range(0, len(found), size))


def inflated(kind: type[ZlibDecoder] | type[ZstdDecoder], pieces: Iterable[bytes]) -> bytes | None:
    """What it inflates to; None for what does not, or to too much."""
    inflating, made = RatioLimit(kind()), bytearray()
    try:
        for piece in pieces:
            for step in inflating.decode(piece):
                made += step
                if len(made) >= INFLATED_BYTES_MAX:
                    return None
        inflating.end()
    except AtlasError:
        return None
    return bytes(made)


def by_zlib(found: bytes) -> bytes:
    if not found:
        return b""
    if found[:1] == b"\x1f":
        return gzip.decompress(found)
    is_zlib = found[0] & 0x0F == 8 and found[0] >> 4 <= 7
    return zlib.decompress(found, 15 if is_zlib else -15)


def export(found: bytes) -> None:
    """The JSON of a request: what is echoed of it is JSON again, and what is kept is text."""
    try:
        sent = parse_json(found, api_types.ExportBody)
    except AtlasError:
        return
    kept(sent)


def batch(found: bytes) -> None:
    """The same of many at once, each of which stands alone."""
    try:
        chunks = BATCHES.split_chunks(parse_json(found, BATCHES.kind))
    except AtlasError:
        return
    for chunk in chunks:
        with suppress(Rejected):
            kept(parse_json(chunk, api_types.ExportBody))


def kept(sent: api_types.ExportBody) -> None:
    said = sent.get_declared_fields()
    receipt = Receipt("id", "accepted", NOON, "", 1, 0)
    reply = build_export_reply(receipt, api_types.ReplyContext("id", "rid", NOON), said)
    echoed = json.loads(msgspec.json.encode(reply), parse_int=str)
    must(echoed["success"] is True, "the answer is no JSON")
    for text in (said.device, said.timestamp):
        text.encode()
    with suppress(AtlasError):
        ndjson.decode_base64(sent.get_text())


def must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Differs(otherwise)


TARGETS: dict[str, Target] = {
    each.__name__: each for each in (decode, lines, token, signed, deflated, zstd, export, batch)
}
