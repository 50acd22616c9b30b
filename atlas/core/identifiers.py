"""Names of things: moments, exports, users in paths, files."""

import hashlib
import hmac
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import count
from typing import get_args

from atlas.core.messages import ExportMetadata, FileFormat, RawExport, StageInput, User

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
UNESCAPED = frozenset((string.ascii_letters + string.digits + "|@._-").encode())
FOLDER_BYTES_MAX = 200
API_PREFIX = "/api/v1/healthkit"  # of all routes for phones
GROUPS = "healthkit/groups/"
PROBE = "healthkit/probe/atlas.ndjson"  # only ever in a transaction that is aborted
EPOCH = datetime.fromtimestamp(0, UTC)
PATH_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z(?![^.])")
MILLISECOND = timedelta(milliseconds=1)
PSEUDONYM_CHARACTERS = 16
STREAM_ID_PREFIX = "whole-"  # no id of an export begins so


def format_timestamp(at: datetime) -> str:
    """A moment as the app writes it: 2025-09-26T06:30:00.000Z"""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def format_duration(seconds: float) -> str:
    """In the largest unit of which there is more than one."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"


def derive_export_id(head: ExportMetadata, ndjson: bytes) -> str:
    """The id of an export: equal for equal exports, so a retry is known however it is encoded."""
    return hash_parts(*encode_identity(head), ndjson)


def derive_part_id(head: ExportMetadata, offset: int, ndjson: bytes) -> str:
    """The id of the part of a streamed body that begins at this byte, after decoding."""
    return hash_parts(*encode_identity(head), str(offset).encode(), ndjson)


def derive_stream_id(user: User, key: str) -> str:
    """The id of the streamed body that an Idempotency-Key names."""
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
    """The id of an export as it came to a stage: before decode, of its encoded body."""
    if isinstance(original, RawExport):
        return derive_export_id(original.head, original.body)
    return original.id


@lru_cache(1_000)
def escape_user(user: User) -> str:
    """The one folder of a user: no sub can name another's folder, or leave the dataset's.

    Plain characters stand as they are, any other byte as %XX; what would be too long is a digest
    behind a "~", which no other folder can start with.
    """
    sub = user.sub.encode()
    plain = (
        UNESCAPED if sub.strip(b".") else frozenset[int]()
    )  # "." and ".." mean something in paths
    name = "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in sub)
    return name if len(name) <= FOLDER_BYTES_MAX else f"~{hashlib.sha256(sub).hexdigest()}"


def build_path(user: User, at: datetime) -> str:
    """healthkit/raw/ada/2025-09-26T06-30-00-000Z.ndjson"""
    return f"{build_user_prefix(user)}{format_path_time(at)}.ndjson"


def build_user_prefix(user: User) -> str:
    """The folder of a user's files, with a slash at its end: no other path begins so."""
    return f"healthkit/raw/{escape_user(user)}/"


def group_paths(first: str, format: FileFormat) -> Iterator[str]:
    """healthkit/groups/2025-09-26T06-30-00-000Z.ndjson, and a millisecond later, and so on.

    It begins at the moment in the path of the first export: a group that is made again of the
    same exports meets itself there.
    """
    at = parse_path_time(first)
    return (
        f"{GROUPS}{format_path_time(at + milliseconds * MILLISECOND)}.{format}"
        for milliseconds in count()
    )


def parse_path_time(path: str) -> datetime:
    """The moment in the path of an export, or of a group. Raises ValueError when there is none."""
    match = PATH_TIME.match(path.rpartition("/")[2])
    if match is None:
        raise ValueError
    year, month, day, hour, minute, second, millisecond = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, millisecond * 1_000, UTC)


def count_milliseconds(at: datetime) -> int:
    """The milliseconds since the beginning of 1970, as precise as paths are."""
    return (at - EPOCH) // MILLISECOND


def format_path_time(at: datetime) -> str:
    """2025-09-26T06-30-00-000Z"""
    return format_timestamp(at).replace(":", "-").replace(".", "-")


def truncate_to_day(path: str) -> str:
    """The common prefix of the paths of the same user, or of groups, on the same day."""
    home, _, name = path.rpartition("/")
    return f"{home}/{name[: len('2025-09-26')]}"


def extract_second(path: str) -> str:
    """The second in the name of a file of ours."""
    return path.rpartition("/")[2][: len("2025-09-26T06-30-00")]


def is_single_export(path: str) -> bool:
    """Whether it is the path of one export, which shares its file with no other."""
    return not path.startswith(GROUPS)


def change_format(path: str, format: FileFormat) -> str:
    return f"{path.rpartition('.')[0]}.{format}"


def detect_format(path: str) -> FileFormat:
    return "parquet" if path.endswith(".parquet") else "ndjson"


@lru_cache(maxsize=4096)
def pseudonymize(key: bytes, sub: str) -> str:
    """The name of a user in logs and on pages: a keyed hash, always the same."""
    return hmac.digest(key, sub.encode(), "sha256").hex()[:PSEUDONYM_CHARACTERS]


def pseudonymize_path(path: str, pseudonym: str) -> str:
    """A path where people look: a user's folder holds the sub, and is called as the user is."""
    if not is_single_export(path):
        return path
    return f"healthkit/raw/{pseudonym}/{path.rpartition('/')[2]}"
