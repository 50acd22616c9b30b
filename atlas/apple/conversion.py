"""Converts an export to samples: the records of its XML and, on request, its ECGs and routes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from atlas.apple.archive import ExportFile, HealthExport
from atlas.apple.ecgs import parse_electrocardiogram
from atlas.apple.errors import Unreadable
from atlas.apple.records import convert_correlation, convert_record
from atlas.apple.routes import parse_routes
from atlas.apple.samples import Sample
from atlas.apple.workouts import convert_workout
from atlas.apple.xml_reader import Element, ElementReader

KNOWN_OTHERS = ("ActivitySummary", "ClinicalRecord", "Audiogram", "VisionPrescription")
UNKNOWN_KIND = "of a kind that is newer than this program"
NOT_COUNTED = ("ExportDate", "Me")
TRUNCATED = "The XML ends in the middle: export once more on the phone."


@dataclass(slots=True)
class Conversion:
    """One pass over an export. It does not raise: `error` holds the reason if it ended early."""

    export: HealthExport
    with_ecgs: bool = False
    with_routes: bool = False
    bytes_read: int = 0  # of `size`
    other_elements: Counter[str] = field(default_factory=Counter)  # not samples, by kind
    skipped: Counter[str] = field(default_factory=Counter)  # files, by reason
    reader: ElementReader = field(default_factory=ElementReader)
    error: str | None = None

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.export.xml, *self.extra_files()))

    def extra_files(self) -> tuple[ExportFile, ...]:
        ecgs = self.export.ecgs if self.with_ecgs else ()
        return ecgs + (self.export.routes if self.with_routes else ())

    def samples(self) -> Iterator[Sample]:
        """Yield all samples. The same export gives the same samples in the same order."""
        self.skipped.update(self.export.skipped)
        try:
            yield from convert_elements(
                self.reader.elements(self.read_chunks(self.export.xml)), self.other_elements
            )
            if not self.reader.is_complete:
                self.error = TRUNCATED
        except Unreadable as error:
            self.error = str(error)
        for part in self.extra_files():
            yield from self.convert_file(part)

    def convert_file(self, part: ExportFile) -> Iterator[Sample]:
        """Yield the samples of one file. A file that is not Apple's is skipped and counted."""
        try:
            if part.name.lower().endswith(".csv"):
                yield parse_electrocardiogram(self.read_chunks(part))
            else:
                yield from parse_routes(self.read_chunks(part), part.name.rpartition("/")[2])
        except Unreadable as error:
            self.skipped[str(error)] += 1

    def read_chunks(self, part: ExportFile) -> Iterator[bytes]:
        for chunk in part.chunks():
            self.bytes_read += len(chunk)
            yield chunk


def convert_elements(elements: Iterable[Element], other_elements: Counter[str]) -> Iterator[Sample]:
    """Yield the samples. `Me` (birth date, sex, blood type) is personal, so it is not counted."""
    for element in elements:
        if element.name == "Record":
            yield convert_record(element)
        elif element.name == "Workout":
            yield convert_workout(element)
            yield from (
                convert_record(child) for child in element.children if child.name == "Record"
            )
        elif element.name == "Correlation":
            yield convert_correlation(element)
        elif element.name not in NOT_COUNTED:
            other_elements[element.name if element.name in KNOWN_OTHERS else UNKNOWN_KIND] += 1
