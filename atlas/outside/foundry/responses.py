"""The parts of Foundry's responses that Atlas reads.

Atlas uses and shows only parts that match a strict pattern here. Documented fields are required;
everything else may be missing or of any type.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from atlas.core.errors import JSON_ERRORS, FoundryError
from atlas.core.ports import TransactionState
from atlas.outside.network import parse_date

T = TypeVar("T")

ERROR_NAME = re.compile(r"[A-Za-z:]{1,80}")
INSTANCE_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PAGE_BYTES = 256  # of a body, in which the beginning of a page is sought

Rid = Annotated[str, Meta(pattern=r"^[!-~]{1,255}$")]
SizeText = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$")]
SizeNumber = Annotated[int, Meta(ge=0, lt=10**18)]
Time = Annotated[datetime, Meta(tz=True)]


class ErrorBody(Struct, frozen=True):
    """Foundry's error envelope. Fields that do not match their pattern are empty."""

    name: str = ""
    instance_id: str = ""
    parameters: Mapping[str, object] = msgspec.field(default_factory=dict)
    is_named: bool = False  # there is an error name, even if it does not match the pattern

    @property
    def base_name(self) -> str:
        """The name without its namespace: Unauthorized for Default:Unauthorized."""
        return self.name.rpartition(":")[2]


NO_ERROR = ErrorBody()


class BranchBody(Struct, frozen=True):
    """A branch. It has no transaction yet if the RID is None."""

    name: str
    transaction_rid: Rid | None = msgspec.field(name="transactionRid", default=None)


class StatusBody(Struct, frozen=True):
    """The status of a transaction."""

    status: TransactionState


class OpenedTransaction(Struct, frozen=True, rename="camel"):
    """A transaction that was just opened."""

    rid: Rid
    created_time: object = None


class TransactionBody(Struct, frozen=True, rename="camel"):
    """A transaction, with the fields that distinguish our orphans from foreign transactions."""

    rid: Rid
    transaction_type: str
    status: TransactionState
    created_time: Time
    closed_time: Time | None = None


class FileBody(Struct, frozen=True, rename="camel"):
    """A file in a listing. Its size is a string by the documentation, but may be a number."""

    path: str
    transaction_rid: Rid
    size_bytes: SizeText | SizeNumber
    updated_time: Time | None = None

    @property
    def bytes(self) -> int:
        return int(self.size_bytes)


class UploadedFile(Struct, frozen=True, rename="camel"):
    """The file in the response to an upload. Everything may be missing."""

    path: str = ""
    transaction_rid: str = ""
    size_bytes: SizeText | SizeNumber | None = None


class FilePage(Struct, frozen=True):
    """One page of a listing of files."""

    data: tuple[FileBody, ...]
    next_page_token: str | None = msgspec.field(name="nextPageToken", default=None)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A conclusive response: any 2xx, or a 4xx that is not about time or load.

    `date` is the Date header. If `is_repeat`, an earlier attempt of the same call got no response,
    and may have taken effect.
    """

    status: int
    body: bytes
    date: str = ""
    error: ErrorBody = NO_ERROR
    is_repeat: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def has_error(self, *names: str) -> bool:
        """True if this is one of these errors of Foundry, with any status."""
        return not self.is_success and self.error.base_name in names

    @property
    def is_page(self) -> bool:
        """True if the body is a page, for example of a proxy or for a login."""
        return self.body[:PAGE_BYTES].lstrip().startswith(b"<")

    @property
    def answered_at(self) -> datetime | None:
        """The time of the Date header, by Foundry's clock; None if there is no valid one."""
        return parse_date(self.date)

    def read(self, kind: type[T]) -> T:
        """Parse the body. Raises FoundryError if it does not match the documented API."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except JSON_ERRORS as error:
            raise FoundryError(
                "The response is not from Foundry: it does not match its documented API.",
                remedy="Is FOUNDRY_HOST right? Does a proxy answer instead of Foundry?",
            ) from error

    def read_if_valid(self, kind: type[T]) -> T | None:
        """Parse the body of a success. Return None for a failure or an invalid body."""
        with suppress(*JSON_ERRORS):
            return msgspec.json.decode(self.body, type=kind) if self.is_success else None
        return None


def parse_error(status: int, body: bytes) -> ErrorBody:
    """Parse the error envelope. It is empty for a success, and for a body of any other form."""
    if status < 400:
        return NO_ERROR
    try:
        envelope = msgspec.json.decode(body, type=dict[str, Any])
    except JSON_ERRORS:
        return NO_ERROR
    parameters = envelope.get("parameters")
    return ErrorBody(
        match_or_empty(ERROR_NAME, envelope.get("errorName")),
        match_or_empty(INSTANCE_ID, envelope.get("errorInstanceId")),
        parameters if isinstance(parameters, dict) else {},
        isinstance(envelope.get("errorName"), str),
    )


def match_or_empty(pattern: re.Pattern[str], value: object) -> str:
    """Return the value if it is a string that matches the pattern, else an empty string."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
