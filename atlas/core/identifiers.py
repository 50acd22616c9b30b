"""Ids, pseudonyms, file paths, addresses, and timestamps as text."""

import hashlib
import hmac
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import get_args
from urllib.parse import quote

from atlas.core.messages import ExportMetadata, FileFormat, RawExport, StageInput, User

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
UNESCAPED = frozenset((string.ascii_letters + string.digits + "|@._-").encode())
FOLDER_BYTES_MAX = 200
API_PREFIX = "/api/v1/healthkit"  # of all routes for phones
GROUPS = "healthkit/groups/"
PROBE = "healthkit/probe/atlas.ndjson"  # only in transactions that are aborted
PROBE_CONTENT = b"\n"  # adds no row if another client commits our probe
EPOCH = datetime.fromtimestamp(0, UTC)
PATH_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z(?![^.])")
MILLISECOND = timedelta(milliseconds=1)
PSEUDONYM_CHARACTERS = 16
STREAM_ID_PREFIX = "whole-"  # no id of an export begins with it


def format_timestamp(at: datetime) -> str:
    """Format a time as the app does: 2025-09-26T06:30:00.000Z"""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def format_duration(seconds: float) -> str:
    """Format a duration in the largest unit of which it has at least two, such as "3 hours"."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"


def derive_export_id(head: ExportMetadata, ndjson: bytes) -> str:
    """Return the id of an export: equal for equal exports, however they are encoded."""
    return hash_parts(*encode_identity(head), ndjson)


def derive_part_id(head: ExportMetadata, offset: int, ndjson: bytes) -> str:
    """Return the id of the part of a streamed body that begins at this byte, after decoding."""
    return hash_parts(*encode_identity(head), str(offset).encode(), ndjson)


def derive_stream_id(user: User, key: str) -> str:
    """Return the id of the streamed body that an Idempotency-Key names."""
    return STREAM_ID_PREFIX + hash_parts(user.sub.encode(), key.encode())


def encode_identity(head: ExportMetadata) -> tuple[bytes, bytes, bytes]:
    return head.user.sub.encode(), head.device.encode(), head.timestamp.encode()


def hash_parts(*parts: bytes) -> str:
    sha256 = hashlib.sha256()
    for part in parts:
        sha256.update(len(part).to_bytes(8, "big"))  # or "ab" + "c" would be "a" + "bc"
        sha256.update(part)
    return sha256.hexdigest()


def derive_input_id(original: StageInput) -> str:
    """Return the id of an export as a stage receives it: before decoding, from its encoded body."""
    if isinstance(original, RawExport):
        return derive_export_id(original.head, original.body)
    return original.id


@lru_cache(1_000)
def escape_user(user: User) -> str:
    """Return the folder name of a user. No sub can name another user's folder or a path outside.

    Unreserved characters stay as they are, any other byte becomes %XX. A name that would be too
    long is replaced by "~" and a hash; no other name begins with "~".
    """
    sub = user.sub.encode()
    is_dots = not sub.strip(b".")  # "." and ".." have a meaning in paths
    name = "".join(
        chr(byte) if byte in UNESCAPED and not is_dots else f"%{byte:02X}" for byte in sub
    )
    return name if len(name) <= FOLDER_BYTES_MAX else f"~{hashlib.sha256(sub).hexdigest()}"


def build_path(user: User, at: datetime) -> str:
    """Return the path of an export: healthkit/raw/ada/2025-09-26T06-30-00-000Z.ndjson"""
    return f"{build_user_prefix(user)}{format_path_time(at)}.ndjson"


def build_user_prefix(user: User) -> str:
    """Return the path of a user's folder. With its final slash, it is a prefix of no other path."""
    return f"healthkit/raw/{escape_user(user)}/"


def group_paths(first: str, format: FileFormat) -> Iterator[str]:
    """Yield candidates for the path of a shared file, each a millisecond after the previous one.

    The first one has the time in the path of the first export, for example
    healthkit/groups/2025-09-26T06-30-00-000Z.ndjson, so that a repeated upload of the same exports
    has the same path.
    """
    at = parse_path_time(first)
    while True:
        yield f"{GROUPS}{format_path_time(at)}.{format}"
        at += MILLISECOND


def parse_path_time(path: str) -> datetime:
    """Return the time in the path of an export or a group. Raises ValueError if there is none."""
    match = PATH_TIME.match(path.rpartition("/")[2])
    if match is None:
        raise ValueError
    year, month, day, hour, minute, second, millisecond = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, millisecond * 1_000, UTC)


def count_milliseconds(at: datetime) -> int:
    """Return the milliseconds since 1970, the precision of paths."""
    return (at - EPOCH) // MILLISECOND


def format_path_time(at: datetime) -> str:
    """Format a time for a path: 2025-09-26T06-30-00-000Z"""
    return format_timestamp(at).replace(":", "-").replace(".", "-")


def truncate_to_day(path: str) -> str:
    """Return the common prefix of the paths of one user, or of groups, on the same day."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name[: len('2025-09-26')]}"


def extract_second(path: str) -> str:
    """Return the time in a file's name, up to the second."""
    return path.rpartition("/")[2][: len("2025-09-26T06-30-00")]


def is_single_export(path: str) -> bool:
    """True if it is the path of a file with one export, not of a shared file."""
    return not path.startswith(GROUPS)


def change_format(path: str, format: FileFormat) -> str:
    return f"{path.rpartition('.')[0]}.{format}"


def detect_format(path: str) -> FileFormat:
    return "parquet" if path.endswith(".parquet") else "ndjson"


@lru_cache(maxsize=4096)
def pseudonymize(key: bytes, sub: str) -> str:
    """Return the name of a user in logs and on pages: a keyed hash, always the same."""
    return hmac.digest(key, sub.encode(), "sha256").hex()[:PSEUDONYM_CHARACTERS]


def pseudonymize_path(path: str, pseudonym: str) -> str:
    """Return a path in which `{user PSEUDONYM}` stands for the user's folder, named by the sub."""
    if not is_single_export(path):
        return path
    return f"healthkit/raw/{{user {pseudonym}}}/{path.rpartition('/')[2]}"


def build_dataset_url(host: str, dataset: str, branch: str) -> str | None:
    """Return the address of a dataset, at its branch, in Foundry's web interface.

    None for an emulator, which has no web interface. Foundry itself is only reached by HTTPS.
    """
    if not host.startswith("https://"):
        return None
    path = f"{quote(dataset, safe='')}/{quote(branch, safe='')}"
    return f"{host}/workspace/data-integration/dataset/preview/{path}"
