"""Converts the routes of workouts (GPX) to samples.

A point takes 180 bytes of JSON, and half a day has 43,000 points. A long route becomes several
lines, because the service accepts at most 8 MiB a line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from xml.parsers import expat

from atlas.apple.context import DATES, POSITIONS
from atlas.apple.dates import Z_POSITION, to_utc
from atlas.apple.errors import Unreadable
from atlas.apple.identity import make_uuid
from atlas.apple.numerals import parse_any_number
from atlas.apple.samples import Number, Route

TYPE = "HKWorkoutRouteTypeIdentifier"
POINTS_MAX = 20_000
TEXT_MAX = 100
NOT_A_ROUTE = "is not a route from Apple Health"
HAS_DOCTYPE = "declares a DTD, as Apple's never does"
# Apple's name: the app's name
NAMES = {
    "ele": "altitude",
    "speed": "speed",
    "course": "course",
    "hAcc": "horizontalAccuracy",
    "vAcc": "verticalAccuracy",
}


def parse_routes(
    chunks: Iterable[bytes], file: str, unread: Counter[str] | None = None
) -> Iterator[Route]:
    """Yield the route, in pieces of at most POINTS_MAX points. Raises Unreadable."""
    track = TrackParser(Counter() if unread is None else unread)
    for chunk in chunks:
        track.feed(chunk)
        while len(track.points) > POINTS_MAX:
            yield build_route(track.points[:POINTS_MAX], file)
            del track.points[:POINTS_MAX]
    track.feed(b"", is_last=True)
    if not track.points:
        raise Unreadable(NOT_A_ROUTE)
    yield build_route(track.points, file)


@dataclass(slots=True)
class TrackParser:
    """Parses GPX, and collects the track points. It counts the texts that it cannot read."""

    unread: Counter[str] = field(default_factory=Counter)
    points: list[dict[str, object]] = field(default_factory=list)
    current: dict[str, object] = field(default_factory=dict)
    text: str = ""
    parser: expat.XMLParserType = field(default_factory=partial(expat.ParserCreate, "UTF-8"))

    def __post_init__(self) -> None:
        self.parser.StartDoctypeDeclHandler = reject_doctype
        self.parser.StartElementHandler = self.start_element
        self.parser.CharacterDataHandler = self.add_characters
        self.parser.EndElementHandler = self.end_element

    def feed(self, chunk: bytes, *, is_last: bool = False) -> None:
        try:
            self.parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise Unreadable(NOT_A_ROUTE) from error

    def start_element(self, name: str, attributes: dict[str, str]) -> None:
        self.text = ""
        if name == "trkpt":
            self.current = {
                "latitude": self.read_number(attributes.get("lat", "")),
                "longitude": self.read_number(attributes.get("lon", "")),
            }

    def add_characters(self, text: str) -> None:
        if len(self.text) < TEXT_MAX:
            self.text += text

    def end_element(self, name: str) -> None:
        if name == "trkpt":
            self.points.append(self.current)
        elif name == "time":
            self.current["timestamp"] = moment = to_utc(self.text.strip())
            self.unread[DATES] += moment[Z_POSITION:] != "Z"
        elif name in NAMES:
            self.current[NAMES[name]] = self.read_number(self.text)

    def read_number(self, text: str) -> Number | None:
        value = parse_any_number(text)
        self.unread[POSITIONS] += value is None
        return value


def reject_doctype(*_doctype: object) -> None:
    raise Unreadable(HAS_DOCTYPE)


def build_route(points: list[dict[str, object]], file: str) -> Route:
    """Build a sample. Its uuid depends on its first position: routes may share their times.

    It is the same in all versions of the identity, because positions have no unit.
    """
    first, start, end = points[0], read_timestamp(points[0]), read_timestamp(points[-1])
    position = (str(first.get("latitude")), str(first.get("longitude")))
    return Route(
        sample_type=TYPE,
        sample_class="HKWorkoutRoute",
        data_type="workoutRoute",
        uuid=make_uuid(TYPE, *position, start, end),
        start_date=start,
        end_date=end,
        route_file=file,
        locations=list(points),
    )


def read_timestamp(point: dict[str, object]) -> str:
    return str(point.get("timestamp", ""))
