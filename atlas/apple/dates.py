"""Local times of Apple's, as UTC."""

from datetime import datetime
from functools import lru_cache

from atlas.core import names

DAY_AND_HOUR, MOMENT = len("2020-04-10 03"), len("2020-04-10 03:38:56")
MINUTES_AND_SECONDS = frozenset(f":{n // 60:02}:{n % 60:02}" for n in range(3_600))


def to_utc(text: str) -> str:
    """2020-04-10 03:38:56 +0200 is 2020-04-10T01:38:56.000Z, and so is 20200410033856+0200.

    What is no moment stays as it stands: a date that cannot be read is no reason to lose a sample.
    Reading one takes 4 µs, and an export has two a sample; so each hour of it is read once.
    """
    minutes = text[DAY_AND_HOUR:MOMENT]
    if minutes in MINUTES_AND_SECONDS:
        hour = hour_to_utc(text[:DAY_AND_HOUR], text[MOMENT:])
        if hour:
            return f"{hour}{minutes}.000Z"
    return parse_to_utc(text)


@lru_cache(maxsize=4_096)
def hour_to_utc(local: str, offset: str) -> str | None:
    """2020-04-10T01 for 2020-04-10 03 and +0200; None if it is no moment, or not a whole hour."""
    start = parse_to_utc(f"{local}:00:00{offset}")
    return start.removesuffix(":00:00.000Z") if start.endswith(":00:00.000Z") else None


def parse_to_utc(text: str) -> str:
    if text[:14].isdecimal():  # iOS 8
        iso = f"{text[:8]}T{text[8:]}"
    else:
        iso = text[:MOMENT] + text[MOMENT:].replace(" ", "")
    try:
        at = datetime.fromisoformat(iso)
        return names.timestamp(at) if at.tzinfo else text
    except (ValueError, OverflowError):
        return text
