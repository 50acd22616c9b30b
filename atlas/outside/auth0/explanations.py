"""Verdicts on single claims, and values that are safe to print."""

import sys
from datetime import UTC, datetime
from typing import Any, TypeGuard

import msgspec

from atlas.core import identifiers
from atlas.core.errors import JSON_ERRORS
from atlas.core.inspection import TokenClaim
from atlas.outside.auth0.tokens import decode_part

SHOWN_MAX = 100  # characters of a value


def decode_json_part(token: str, number: int) -> dict[str, Any] | None:
    """Return the header (0) or the claims (1); None if they are not a JSON object."""
    try:
        decoded = decode_part(token.split(".")[number])
        return msgspec.json.decode(decoded, type=dict[str, Any])
    except (*JSON_ERRORS, ValueError, IndexError):
        return None


def accept_claim(name: str, value: str) -> TokenClaim:
    return TokenClaim(name, value, "good")


def reject_claim(name: str, value: str, reason: str, remedy: str) -> TokenClaim:
    return TokenClaim(name, value, "bad", reason, remedy)


def check_claim(name: str, value: object, is_good: bool, reason: str, remedy: str) -> TokenClaim:
    shown = to_printable(value)
    return accept_claim(name, shown) if is_good else reject_claim(name, shown, reason, remedy)


def to_printable(value: object) -> str:
    """Return a value as text that is safe to print to a terminal."""
    if value is None:
        return "absent"
    if not isinstance(value, str):
        return f"not a string ({type(value).__name__})"
    return "".join(each if each.isprintable() else "?" for each in value[:SHOWN_MAX])


def is_time(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # else arithmetic with it would fail


def format_time(value: object) -> str:
    if not is_time(value):
        return "absent" if value is None else "not a time"
    try:
        return identifiers.format_timestamp(datetime.fromtimestamp(value, UTC))
    except (ValueError, OverflowError, OSError):
        return "out of range"
