"""Converts an export to samples: the records of its XML and, on request, its ECGs and routes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from atlas.apple.archive import ExportFile, HealthExport
from atlas.apple.context import ConversionContext
from atlas.apple.ecgs import parse_electrocardiogram
from atlas.apple.errors import Unreadable
from atlas.apple.identity import IDENTITY_DEFAULT
from atlas.apple.records import convert_correlation, convert_record
from atlas.apple.routes import parse_routes
from atlas.apple.samples import Sample, SampleDeletion
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
    identity: int = IDENTITY_DEFAULT
    replaced_identity: int | None = None  # its uuids are deleted
    bytes_read: int = 0  # of `size`
    other_elements: Counter[str] = field(default_factory=Counter)  # not samples, by kind
    skipped: Counter[str] = field(default_factory=Counter)  # files, by reason
    deletions: int = 0
    reader: ElementReader = field(default_factory=ElementReader)
    error: str | None = None
    context: ConversionContext = field(init=False)
    old_context: ConversionContext | None = field(init=False)

    def __post_init__(self) -> None:
        self.context = ConversionContext.begin(self.identity)
        old = self.replaced_identity
        self.old_context = None if old is None else ConversionContext.begin(old)

    @property
    def unread(self) -> Counter[str]:
        """Texts that could not be read, by kind."""
        return +self.context.unread

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.export.xml, *self.extra_files()))

    def extra_files(self) -> tuple[ExportFile, ...]:
        ecgs = self.export.ecgs if self.with_ecgs else ()
        return ecgs + (self.export.routes if self.with_routes else ())

    def samples(self) -> Iterator[Sample | SampleDeletion]:
        """Yield all samples. The same export gives the same samples in the same order."""
        self.skipped.update(self.export.skipped)
        try:
            elements = self.reader.elements(self.read_chunks(self.export.xml))
            if self.old_context:
                for element in elements:
                    yield from self.replace_samples(
                        convert_elements([element], self.old_context, Counter()),
                        convert_elements([element], self.context, self.other_elements),
                    )
            else:
                yield from convert_elements(elements, self.context, self.other_elements)
            if not self.reader.is_complete:
                self.error = TRUNCATED
        except Unreadable as error:
            self.error = str(error)
        for part in self.extra_files():
            yield from self.convert_file(part)

    def replace_samples(
        self, old_samples: Iterable[Sample], samples: Iterable[Sample]
    ) -> Iterator[Sample | SampleDeletion]:
        """Yield the samples, each after the deletion of its old uuid."""
        for old, sample in zip(old_samples, samples, strict=True):
            self.deletions += 1
            yield SampleDeletion(old.uuid)
            yield sample

    def convert_file(self, part: ExportFile) -> Iterator[Sample | SampleDeletion]:
        """Yield the samples of one file. A file that is not Apple's is skipped and counted."""
        try:
            if part.name.lower().endswith(".csv"):
                yield from self.convert_electrocardiogram(list(self.read_chunks(part)))
            else:
                name = part.name.rpartition("/")[2]
                yield from parse_routes(self.read_chunks(part), name, self.context.unread)
        except Unreadable as error:
            self.skipped[str(error)] += 1

    def convert_electrocardiogram(
        self, chunks: Sequence[bytes]
    ) -> Iterator[Sample | SampleDeletion]:
        sample = parse_electrocardiogram(chunks, self.context)
        if self.old_context:
            old = parse_electrocardiogram(chunks, self.old_context)
            yield from self.replace_samples([old], [sample])
        else:
            yield sample

    def read_chunks(self, part: ExportFile) -> Iterator[bytes]:
        for chunk in part.chunks():
            self.bytes_read += len(chunk)
            yield chunk


def convert_elements(
    elements: Iterable[Element], context: ConversionContext, other_elements: Counter[str]
) -> Iterator[Sample]:
    """Yield the samples. `Me` (birth date, sex, blood type) is personal, so it is not counted."""
    inner = context.enter(context.unread)
    for element in elements:
        if element.name == "Record":
            yield convert_record(context, element)
        elif element.name == "Workout":
            yield convert_workout(context, element)
            yield from (
                convert_record(inner, child) for child in element.children if child.name == "Record"
            )
        elif element.name == "Correlation":
            yield convert_correlation(context, element)
        elif element.name not in NOT_COUNTED:
            other_elements[element.name if element.name in KNOWN_OTHERS else UNKNOWN_KIND] += 1
