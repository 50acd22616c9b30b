"""Fuzz targets: pure functions that read untrusted input, each with the properties that must hold.

A target takes any bytes. Only an error of Atlas may result; anything else is a find. If there is
another reader of the same format, both must agree.
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
from urllib.parse import unquote

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from atlas.core import ndjson
from atlas.core.credentials import Proof
from atlas.core.errors import AtlasError, Rejected
from atlas.core.messages import ExportMetadata, RawExport, Receipt, RowTable, User
from atlas.core.records import DEPTH_MAX, REASONS, Record
from atlas.core.rows import COLUMNS, Header, flatten
from atlas.edge import api_types
from atlas.edge.batches import BatchParser
from atlas.edge.body_reader import parse_json
from atlas.edge.content_encoding import RatioLimit, ZlibDecoder, ZstdDecoder
from atlas.edge.responses import build_export_reply
from atlas.edge.used_proofs import derive_id
from atlas.local.auth0 import generate_key
from atlas.outside.auth0.policy import ProofPolicy, TokenPolicy
from atlas.outside.auth0.proofs import ProofVerifier
from atlas.outside.auth0.tokens import TokenValidator, read_origin

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
    """A JSON object with its duplicate keys."""


class Differs(AssertionError):
    """Two readers disagree, or a promise does not hold."""


def check_decode(data: bytes) -> None:
    """Check the body of an export: decoded as the standard library does, or refused."""
    try:
        text = ndjson.decode(RawExport(HEAD, data), DECODED_BYTES_MAX, LINES_MAX).text
    except AtlasError:
        return
    require(text == decode_base64(data), "the text differs from the base64")
    check_balance(flatten(ndjson.split_lines(text), HEADER), text)


def decode_base64(data: bytes) -> bytes:
    standard = re.sub(rb"[ \t\r\n]", b"", data).replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    return base64.b64decode(standard + b"=" * (-len(standard) % 4), validate=True)


def check_lines(data: bytes) -> None:
    """Check lines to rows: the fast and the slow path agree with each other and with `json`."""
    split = ndjson.split_lines(data)
    table = flatten(split, HEADER)
    require(
        table == flatten(split, HEADER, read=force_slow_path), "the fast and the slow path differ"
    )
    check_balance(table, data)
    valid = [line for line in split if is_valid(line)]
    require(table.ingested == len(valid), "the json module accepts other lines")
    for row, line in zip(table.ndjson.split(b"\n"), valid, strict=False):
        raw = json.loads(row)["raw_healthkit_record"]
        require(raw.encode() == line, "the record differs from the line sent")


def force_slow_path(_line: bytes) -> Record:
    raise msgspec.DecodeError


def check_balance(table: RowTable, text: bytes) -> None:
    """Check that received = ingested + rejected, and that every row is valid."""
    filled = sum(1 for line in ndjson.split_lines(text) if not BLANK.fullmatch(line))
    require(table.ingested + table.rejected == filled, "lines are missing")
    require(all(reject.reason in REASONS for reject in table.rejects), "an unknown reason")
    rows = table.ndjson.split(b"\n")[:-1]
    require(len(rows) == table.ingested, "rows are missing")
    for each in rows:
        row = json.loads(each)
        require(tuple(row) == COLUMNS, "the columns differ")
        value = row.pop("value_double")
        require(value is None or math.isfinite(value), "not a finite number")
        require(all(isinstance(text, str) for text in row.values()), "not a text")


def is_valid(line: bytes) -> bool:
    """True if a line is a record by the rules of the contract, read with the json module."""
    try:
        data = json.loads(line.decode(), parse_constant=refuse, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, Pairs) and has_good_values(data, DEPTH_MAX)


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


def check_token(data: bytes) -> None:
    """Check that no unsigned token is accepted."""
    text = data.decode("latin-1")
    try:
        read_origin(text, ("RS256",))
        build_validator().validate(text, key())
    except AtlasError:
        return
    raise Differs("an unsigned token was accepted")


def check_signed(data: bytes) -> None:
    """Check signed tokens: a header and, after the first line end, claims of any bytes."""
    header, _, claims = data.partition(b"\n")
    signing_input = f"{encode_base64url(header)}.{encode_base64url(claims)}"
    text = f"{signing_input}.{encode_base64url(signer().sign(signing_input.encode(), key()))}"
    try:
        read_origin(text, ("RS256",))
        accepted = build_validator().validate(text, key())
        user, expires = accepted.user, accepted.expires
    except AtlasError:
        return
    require(bool(user.sub), "the sub is empty")
    user.sub.encode()
    require(math.isfinite(expires) and expires > NOON.timestamp() - 60, "the token has expired")
    given = json.loads(claims)
    require((given["iss"], given["sub"]) == (ISSUER, user.sub), "the user differs from the sub")


def check_proof(data: bytes) -> None:
    """Check signed DPoP proofs: a header and, after the first line end, claims of any bytes."""
    header, _, claims = data.partition(b"\n")
    signing_input = f"{encode_base64url(header)}.{encode_base64url(claims)}"
    signer = jws.JWSRegistry(algorithms=["ES256"]).get_alg("ES256")
    signature = signer.sign(signing_input.encode(), proof_key())
    text = f"{signing_input}.{encode_base64url(signature)}"
    verifier = ProofVerifier(ProofPolicy(), lambda: NOON)
    try:
        proof = Proof(text, "POST", "https://a.test/export")
        verifier.verify(proof, bytes(32), proof_key().thumbprint())
    except AtlasError:
        return
    given = json.loads(claims)
    require((given["htm"], given["ath"]) == ("POST", "A" * 43), "it is for another request")
    require("/export" in unquote(given["htu"]), "it is for another path")
    require(given["jti"] != "", "it has no name")
    derive_id(HEAD.user, text)


@cache
def proof_key() -> ECKey:
    """Return a key that is the same in every run, so that the corpus can name it."""
    private = ec.derive_private_key(7, ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ECKey.import_key(pem)


def encode_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@cache
def key() -> RSAKey:
    return generate_key()


@cache
def signer() -> jws.JWSAlgModel:
    return jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")


@cache
def build_validator() -> TokenValidator:
    return TokenValidator(ISSUER, TokenPolicy((ISSUER,), (AUDIENCE,)), lambda: NOON)


def check_deflated(data: bytes) -> None:
    """Check gzip and deflate: the same result in any pieces, and as with zlib."""
    whole = inflate(ZlibDecoder, [data])
    for size in CUTS:
        require(
            inflate(ZlibDecoder, split(data, size)) == whole,
            f"the result differs in pieces of {size}",
        )
    if whole is not None:
        require(whole == inflate_with_zlib(data), "zlib inflates it differently")


def check_zstd(data: bytes) -> None:
    """Check that Zstandard data, if they inflate, inflate to the same in any pieces.

    The pieces may decide whether broken data inflate: libzstd notices a frame of a wrong length in
    one piece, but not in many if the last block is empty.
    """
    outputs = [inflate(ZstdDecoder, split(data, size)) for size in (len(data) or 1, *CUTS)]
    require(
        len({each for each in outputs if each is not None}) <= 1, "the result depends on the pieces"
    )


def split(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def inflate(kind: type[ZlibDecoder] | type[ZstdDecoder], pieces: Iterable[bytes]) -> bytes | None:
    """Inflate; None if the data are broken or too large."""
    decoder, outputs = RatioLimit(kind()), bytearray()
    try:
        for piece in pieces:
            for step in decoder.decode(piece):
                outputs += step
                if len(outputs) >= INFLATED_BYTES_MAX:
                    return None
        decoder.end()
    except AtlasError:
        return None
    return bytes(outputs)


def inflate_with_zlib(data: bytes) -> bytes:
    if not data:
        return b""
    if data[:1] == b"\x1f":
        return gzip.decompress(data)
    is_zlib = data[0] & 0x0F == 8 and data[0] >> 4 <= 7
    return zlib.decompress(data, 15 if is_zlib else -15)


def check_export(data: bytes) -> None:
    """Check the JSON of a request: the answer is JSON again, and all stored values are text."""
    try:
        sent = parse_json(data, api_types.ExportBody)
    except AtlasError:
        return
    check_body(sent)


def check_batch(data: bytes) -> None:
    """Check a batch in the same way; each chunk stands alone."""
    try:
        chunks = BATCHES.split_chunks(parse_json(data, BATCHES.kind))
    except AtlasError:
        return
    for chunk in chunks:
        with suppress(Rejected):
            check_body(parse_json(chunk, api_types.ExportBody))


def check_body(sent: api_types.ExportBody) -> None:
    declared = sent.get_declared_fields()
    receipt = Receipt("id", "accepted", NOON, "", 1, 0)
    reply = build_export_reply(receipt, api_types.ReplyContext("id", "rid", NOON), declared)
    echoed = json.loads(msgspec.json.encode(reply), parse_int=str)
    require(echoed["success"] is True, "the answer is not JSON")
    for text in (declared.device, declared.timestamp):
        text.encode()
    with suppress(AtlasError):
        ndjson.decode_base64(sent.get_text())


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Differs(otherwise)


TARGETS: dict[str, Target] = {
    each.__name__.removeprefix("check_"): each
    for each in (
        check_decode,
        check_lines,
        check_token,
        check_signed,
        check_proof,
        check_deflated,
        check_zstd,
        check_export,
        check_batch,
    )
}
