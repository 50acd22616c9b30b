"""Behaviours of Foundry that its documentation leaves open, as modes of the emulator."""

from collections.abc import Mapping
from random import Random
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, asdict, fields

Value = str | int | float


class InvalidMode(ValueError):
    """A mode or a value that does not exist; the message lists the valid ones."""


class Behaviour(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The behaviour of Foundry where it is undocumented. Every default is the likeliest guess.

    README.md names the sentence that the documentation lacks for each mode.

    open_listing        the answer to a listing of the files of one open transaction
    file_exists         the status of FileAlreadyExists; or a second upload replaces the first
    path_taken          when an APPEND with a path of the branch's view is refused, if at all
    end_answer          the answer to a commit or an abort that succeeds
    head_after_abort    the branch's transactionRid, until the next transaction begins
    clock_skew_seconds  times in answers, against the Date header
    date_header         answers carry a Date header
    expires_in          the type of expires_in in a token answer
    sizes               the type of sizeBytes
    content_bytes_max   the content of a larger file is FileSizeLimitExceeded; 0: no limit
    redirect            every API call is redirected to another host
    repeated_end        the answer to a commit or an abort of a transaction that has ended
    busy                the answer to a create while a transaction is open
    schema_service      the answer of the services behind "Apply a schema" to an application
    """

    open_listing: Literal["empty", "listed", "not_found", "not_committed"] = "empty"
    file_exists: Literal[404, 409, 400, "overwrites"] = 404
    path_taken: Literal["commit", "upload", "never"] = "commit"
    end_answer: Literal["transaction", "no_content", "empty"] = "transaction"
    head_after_abort: Literal["previous", "none", "aborted"] = "previous"
    clock_skew_seconds: Annotated[float, Meta(ge=-3600, le=3600, examples=[0.0, -5.0, 5.0])] = 0.0
    date_header: bool = True
    expires_in: Literal["number", "text"] = "number"
    sizes: Literal["text", "number"] = "text"
    content_bytes_max: Annotated[int, Meta(ge=0, examples=[0, 1_000])] = 0
    redirect: bool = False
    repeated_end: Literal["not_open", "not_open_without_status", "not_found", "conflict"] = (
        "not_open"
    )
    busy: Literal["named", "unnamed", "bad_request"] = "named"
    schema_service: Literal["open", "absent", "forbidden", "not_allowed", "login", "page"] = "open"

    @classmethod
    def list_values(cls) -> dict[str, tuple[Value, ...]]:
        """Return the values of each mode, its default first; for a number, a few examples."""
        return {each.name: find_values(each) for each in fields(cls)}

    @classmethod
    def list_pairs(cls) -> list[tuple[str, Value]]:
        """Return every mode with each of its values."""
        return [(name, value) for name, values in cls.list_values().items() for value in values]

    @classmethod
    def draw(cls, rng: Random, **fixed: Value) -> "Behaviour":
        """Draw every mode, except those that are `fixed`: under `redirect` nothing else works."""
        drawn = {name: rng.choice(values) for name, values in cls.list_values().items()}
        return cls().change(drawn | fixed)

    def change(self, modes: Mapping[str, object], *, strict: bool = True) -> "Behaviour":
        """Copy with other modes. Values may be text if not `strict`. Raises InvalidMode."""
        known = self.list_values()
        for name, value in modes.items():
            if name not in known:
                raise InvalidMode(f"There is no mode {name!r}. Modes: {', '.join(known)}.")
            try:
                msgspec.convert({name: value}, Behaviour, strict=strict)
            except msgspec.ValidationError as error:
                valid = ", ".join(str(each).lower() for each in known[name])
                such = "a number such as " if name in NUMERIC_MODES else ""
                raise InvalidMode(f"{name} cannot be {value!r}. Valid: {such}{valid}.") from error
        return msgspec.convert(asdict(self) | dict(modes), Behaviour, strict=strict)


def find_values(mode: FieldInfo) -> tuple[Value, ...]:
    if mode.type is bool:
        return (mode.default, not mode.default)
    arguments = get_args(mode.type)
    return tuple(arguments if get_origin(mode.type) is Literal else arguments[1].examples)


NUMERIC_MODES = {each.name for each in fields(Behaviour) if get_origin(each.type) is Annotated}


class PathRefusal(Struct, frozen=True, forbid_unknown_fields=True):
    """Paths that Foundry refuses, at their upload or at the commit of their transaction."""

    contains: str  # a path, a folder, a user
    at: Literal["upload", "commit"] = "upload"
    status: Annotated[int, Meta(ge=400, le=599)] = 400
    name: str = "InvalidFilePath"
