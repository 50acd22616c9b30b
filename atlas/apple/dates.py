"""Converts Apple's local times to UTC."""

from datetime import datetime
from functools import lru_cache

from atlas.apple.local_dates import FIRST_YEAR, LAST_YEAR, normalize_date
from atlas.core import identifiers

DAY_AND_HOUR, MOMENT = len("2020-04-10 03"), len("2020-04-10 03:38:56")
Z_POSITION = len("2020-04-10T01:38:56.000")  # a date that was read has its Z there
# minutes and seconds as Apple writes them, and as they end a timestamp
ENDINGS = {each: f"{each}.000Z" for each in (f":{n // 60:02}:{n % 60:02}" for n in range(3_600))}


def to_utc(text: str) -> str:
    """Convert 2020-04-10 03:38:56 +0200, or 20200410033856+0200, to 2020-04-10T01:38:56.000Z.

    Text that is not a date is returned unchanged: a bad date must not lose the sample. Parsing
    takes 4 µs, and every sample has two dates, so each hour is parsed once and cached.
    """
    ending = ENDINGS.get(text[DAY_AND_HOUR:MOMENT])
    if ending:
        hour = hour_to_utc(text[:DAY_AND_HOUR], text[MOMENT:])
        if hour:
            return hour + ending
    return parse_to_utc(text)


@lru_cache(maxsize=4_096)
def hour_to_utc(local: str, offset: str) -> str | None:
    """Return 2020-04-10T01 for 2020-04-10 03 and +0200; None if it is not a whole hour in UTC."""
    start = parse_to_utc(f"{local}:00:00{offset}")
    return start.removesuffix(":00:00.000Z") if start.endswith(":00:00.000Z") else None


def parse_to_utc(text: str) -> str:
    """Parse a date as Apple writes it, or as some phones do. Other text is returned unchanged."""
    moment = parse_apple_date(text)
    if is_plausible(moment):
        return moment
    moment = parse_apple_date(normalize_date(text))
    return moment if is_plausible(moment) else text


def is_plausible(moment: str) -> bool:
    """Check for a converted date in a year of our calendar: samples are not older than people."""
    return moment.endswith("Z") and str(FIRST_YEAR) <= moment[:4] <= str(LAST_YEAR)


def parse_apple_date(text: str) -> str:
    """Parse a date in Apple's format, of any year. Other text is returned unchanged."""
    if text[:14].isdecimal():  # iOS 8
        iso = f"{text[:8]}T{text[8:]}"
    else:
        iso = text[:MOMENT] + text[MOMENT:].replace(" ", "")
    try:
        at = datetime.fromisoformat(iso)
        return identifiers.format_timestamp(at) if at.tzinfo else text
    except (ValueError, OverflowError):
        return text
