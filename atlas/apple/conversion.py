"""From an export to samples: the records of its XML, and the files beside it that are asked for."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from atlas.apple.archive import Export, Part
from atlas.apple.ecgs import electrocardiogram
from atlas.apple.errors import Unreadable
from atlas.apple.markup import Element, Reader
from atlas.apple.records import correlation, record
from atlas.apple.routes import routes
from atlas.apple.samples import Sample
from atlas.apple.workouts import workout

OTHERS = ("ActivitySummary", "ClinicalRecord", "Audiogram", "VisionPrescription")
NEW = "of a kind that is newer than this program"
UNCOUNTED = ("ExportDate", "Me")
CUT = "The XML ends in the middle: export once more on the phone."


@dataclass(slots=True)
class Conversion:
    """One pass over an export. It never fails: what it could not read is told at its end."""

    export: Export
    with_ecgs: bool = False
    with_routes: bool = False
    bytes_read: int = 0  # of `size`
    others: Counter[str] = field(default_factory=Counter)  # elements that are no samples, by kind
    passed_over: Counter[str] = field(default_factory=Counter)  # files, by the reason
    reader: Reader = field(default_factory=Reader)
    trouble: str | None = None

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.export.xml, *self.beside()))

    def beside(self) -> tuple[Part, ...]:
        ecgs = self.export.ecgs if self.with_ecgs else ()
        return ecgs + (self.export.routes if self.with_routes else ())

    def samples(self) -> Iterator[Sample]:
        """All of them; the same export gives the same ones in the same order."""
        self.passed_over.update(self.export.passed_over)
        try:
            yield from samples(self.reader.elements(self.read(self.export.xml)), self.others)
            if not self.reader.is_whole:
                self.trouble = CUT
        except Unreadable as error:
            self.trouble = str(error)
        for part in self.beside():
            yield from self.of(part)

    def of(self, part: Part) -> Iterator[Sample]:
        """A file that is none of Apple's is passed over, alone."""
        try:
            if part.name.lower().endswith(".csv"):
                yield electrocardiogram(self.read(part))
            else:
                yield from routes(self.read(part), part.name.rpartition("/")[2])
        except Unreadable as error:
            self.passed_over[str(error)] += 1

    def read(self, part: Part) -> Iterator[bytes]:
        for chunk in part.chunks():
            self.bytes_read += len(chunk)
            yield chunk


def samples(elements: Iterable[Element], others: Counter[str]) -> Iterator[Sample]:
    """`Me` holds a birth date, a sex and a blood type, and is not even counted."""
    for element in elements:
        if element.name == "Record":
            yield record(element)
        elif element.name == "Workout":
            yield workout(element)
            yield from (record(child) for child in element.children if child.name == "Record")
        elif element.name == "Correlation":
            yield correlation(element)
        elif element.name not in UNCOUNTED:
            others[element.name if element.name in OTHERS else NEW] += 1
