"""Version 1 of the identity: a digest of what is printed, for imports that began with it.

Two samples of the same source, moments and value have the same uuid, and a sample has another one
when the phone prints it in another unit. It repeats the reading of dates and rates of its time, so
that it gives the same uuids for ever.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from atlas.apple.dates import parse_apple_date
from atlas.apple.identity import make_uuid
from atlas.apple.numerals import parse_number
from atlas.core import identifiers

PLAIN_LENGTH = len("2020-04-10 03:38:56 +0200")


class PrintedIdentity:
    """Version 1. It has no state: the same text always has the same uuid."""

    def identify(
        self,
        attributes: Mapping[str, str],
        source: tuple[str, str],
        moments: tuple[str, str, str],
        metadata: dict[str, object] | None,  # noqa: ARG002  # not part of this version
        printed: tuple[str, str],
    ) -> str:
        start = read_date(attributes.get("startDate", ""), moments[0])
        end = read_date(attributes.get("endDate", ""), moments[1])
        return make_uuid(*source, start, end, *printed)

    def identify_electrocardiogram(
        self, kind: str, header: Mapping[str, str], start: str, count: int
    ) -> str:
        start = read_date(header["recorded"], start)
        end = find_end(start, header["rate"], count)
        return make_uuid(kind, header["version"], header["device"], start, end)


def read_date(text: str, moment: str) -> str:
    """Return the moment if it was read from Apple's format, else what it was in this version."""
    is_plain = len(text) == PLAIN_LENGTH and text.isascii() and text[13] == text[16] == ":"
    return moment if is_plain and moment[:2] in {"19", "20", "21"} else parse_apple_date(text)


def find_end(start: str, rate: str, count: int) -> str:
    """Return the end of an electrocardiogram. A rate with a no-break space was not understood."""
    hertz = parse_number(rate.partition(" ")[0].replace(",", "."))
    try:
        seconds = timedelta(seconds=count / hertz) if hertz else timedelta()
        return identifiers.format_timestamp(datetime.fromisoformat(start) + seconds)
    except (OverflowError, ValueError):
        return start
