"""Routes of workouts: GPX, as lines of their own.

A point is 180 bytes of JSON, and half a day has 43,000: a long route is cut into several lines,
because the service takes no line of more than 8 MiB.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from xml.parsers import expat

from atlas.apple.dates import utc
from atlas.apple.errors import Unreadable
from atlas.apple.identity import uuid_of
from atlas.apple.samples import Route
from atlas.apple.traits import number

TYPE = "HKWorkoutRouteTypeIdentifier"
POINTS_MAX = 20_000
TEXT_MAX = 100
NO_ROUTE = "is no route of Apple's"
DECLARES = "declares a DTD, as Apple's never does"
# Apple's word: the app's
NAMES = {
    "ele": "altitude",
    "speed": "speed",
    "course": "course",
    "hAcc": "horizontalAccuracy",
    "vAcc": "verticalAccuracy",
}


def routes(chunks: Iterable[bytes], file: str) -> Iterator[Route]:
    """Raises Unreadable."""
    points = Points()
    for chunk in chunks:
        points.feed(chunk)
        while len(points.found) > POINTS_MAX:
            yield route(points.found[:POINTS_MAX], file)
            del points.found[:POINTS_MAX]
    points.feed(b"", is_last=True)
    if not points.found:
        raise Unreadable(NO_ROUTE)
    yield route(points.found, file)


@dataclass(slots=True)
class Points:
    """Those of a track that were read so far."""

    found: list[dict[str, object]] = field(default_factory=list)
    point: dict[str, object] = field(default_factory=dict)
    text: str = ""
    parser: expat.XMLParserType = field(default_factory=partial(expat.ParserCreate, "UTF-8"))

    def __post_init__(self) -> None:
        self.parser.StartDoctypeDeclHandler = refuse
        self.parser.StartElementHandler = self.start
        self.parser.CharacterDataHandler = self.characters
        self.parser.EndElementHandler = self.end

    def feed(self, chunk: bytes, *, is_last: bool = False) -> None:
        try:
            self.parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise Unreadable(NO_ROUTE) from error

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.text = ""
        if name == "trkpt":
            self.point = {
                "latitude": number(attributes.get("lat", "")),
                "longitude": number(attributes.get("lon", "")),
            }

    def characters(self, text: str) -> None:
        if len(self.text) < TEXT_MAX:
            self.text += text

    def end(self, name: str) -> None:
        if name == "trkpt":
            self.found.append(self.point)
        elif name == "time":
            self.point["timestamp"] = utc(self.text.strip())
        elif name in NAMES:
            self.point[NAMES[name]] = number(self.text)


def refuse(*_doctype: object) -> None:
    raise Unreadable(DECLARES)


def route(points: list[dict[str, object]], file: str) -> Route:
    """Where it began tells routes apart that were walked together."""
    first, start, end = points[0], moment(points[0]), moment(points[-1])
    place = (str(first.get("latitude")), str(first.get("longitude")))
    return Route(
        sample_type=TYPE,
        sample_class="HKWorkoutRoute",
        data_type="workoutRoute",
        uuid=uuid_of(TYPE, *place, start, end),
        start_date=start,
        end_date=end,
        route_file=file,
        locations=list(points),
    )


def moment(point: dict[str, object]) -> str:
    return str(point.get("timestamp", ""))
