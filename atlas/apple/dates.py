"""Converts Apple's local times to UTC."""

from datetime import datetime
from functools import lru_cache

from atlas.core import identifiers

DAY_AND_HOUR, MOMENT = len("2020-04-10 03"), len("2020-04-10 03:38:56")
MINUTES_AND_SECONDS = frozenset(f":{n // 60:02}:{n % 60:02}" for n in range(3_600))


def to_utc(text: str) -> str:
    """Convert 2020-04-10 03:38:56 +0200, or 20200410033856+0200, to 2020-04-10T01:38:56.000Z.

    Text that is not a date is returned unchanged: a bad date must not lose the sample. Parsing
    takes 4 µs, and every sample has two dates, so each hour is parsed once and cached.
    """
    minutes = text[DAY_AND_HOUR:MOMENT]
    if minutes in MINUTES_AND_SECONDS:
        hour = hour_to_utc(text[:DAY_AND_HOUR], text[MOMENT:])
        if hour:
            return f"{hour}{minutes}.000Z"
    return parse_to_utc(text)


@lru_cache(maxsize=4_096)
def hour_to_utc(local: str, offset: str) -> str | None:
    """Return 2020-04-10T01 for 2020-04-10 03 and +0200; None if it is not a whole hour in UTC."""
    start = parse_to_utc(f"{local}:00:00{offset}")
    return start.removesuffix(":00:00.000Z") if start.endswith(":00:00.000Z") else None


def parse_to_utc(text: str) -> str:
    if text[:14].isdecimal():  # iOS 8
        iso = f"{text[:8]}T{text[8:]}"
    else:
        iso = text[:MOMENT] + text[MOMENT:].replace(" ", "")
    try:
        at = datetime.fromisoformat(iso)
        return identifiers.format_timestamp(at) if at.tzinfo else text
    except (ValueError, OverflowError):
        return text
