"""Counts the rows that are the same, differ as intended, or differ without explanation."""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from atlas.comparison import fingerprints
from atlas.comparison.columns import NUMBER, NUMBER_REASONS
from atlas.comparison.files import PROGRESS_ROWS, NotRows, Side
from atlas.comparison.fingerprints import Fingerprint
from atlas.comparison.pairs import ClassifiedPair, Pair, RowBuckets, classify
from atlas.comparison.reasons import Reason

LOCATIONS_SHOWN = 3
NOWHERE = (1 << 32, 0)


class RowLocation(Struct, frozen=True):
    """The position of a row on each side, as FILE:LINE. None if that side lacks it."""

    old: str | None
    new: str | None


class ReasonSummary(Struct, frozen=True):
    """One reason and its rows. A row that differs for two reasons counts for both."""

    reason: str
    sentence: str
    explained: bool
    rows: int
    columns: dict[str, int]
    places: list[RowLocation]


class RowCounts(Struct):
    """Numbers of rows on each side."""

    old: int = 0
    new: int = 0

    def add(self, pair: Pair) -> None:
        self.old += pair[0] is not None
        self.new += pair[1] is not None


class ComparisonReport(Struct, frozen=True):
    """same + as_intended + unexplained = rows, on each side."""

    rows: RowCounts
    same: RowCounts
    as_intended: RowCounts
    unexplained: RowCounts
    findings: list[ReasonSummary]

    @property
    def is_explained(self) -> bool:
        return not self.unexplained.old and not self.unexplained.new


@dataclass(slots=True)
class Occurrences:
    """The rows found for one reason so far."""

    rows: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    locations: list[tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=list)

    def add(self, reason: Reason, pair: Pair) -> None:
        self.rows += 1
        self.columns.update(list_differing_columns(reason, *pair))
        insort(self.locations, (find_position(pair[0]), find_position(pair[1])))
        del self.locations[LOCATIONS_SHOWN:]


def compare_sides(
    old: Side, new: Side, on_progress: Callable[[int], None] = lambda _bytes: None
) -> ComparisonReport:
    """Compare all rows. `on_progress` is called with the bytes read of both. Raises NotRows.

    A row takes a hundred bytes of memory: a million rows on each side take 310 MB.
    """
    buckets = RowBuckets(), RowBuckets()
    for side, bucket, fingerprint in zip(
        (old, new),
        buckets,
        (fingerprints.fingerprint_old, fingerprints.fingerprint_new),
        strict=True,
    ):
        for file, line, row in side.rows():
            bucket.add(fingerprint(row, file, line))
            if bucket.rows % PROGRESS_ROWS == 0:
                on_progress(old.bytes_read + new.bytes_read)
        if not bucket.rows:
            raise NotRows(f"There are no rows in {side.name}.")
    rows = RowCounts(buckets[0].rows, buckets[1].rows)
    return build_report(classify(*buckets), rows, old, new)


def build_report(
    all_rows: Iterable[ClassifiedPair], rows: RowCounts, old: Side, new: Side
) -> ComparisonReport:
    report, occurrences = (
        ComparisonReport(rows, RowCounts(), RowCounts(), RowCounts(), []),
        dict[Reason, Occurrences](),
    )
    for pair, reasons in all_rows:
        for reason in reasons:
            occurrences.setdefault(reason, Occurrences()).add(reason, pair)
        if not reasons:
            report.same.add(pair)
        elif all(reason.is_explained for reason in reasons):
            report.as_intended.add(pair)
        else:
            report.unexplained.add(pair)
    report.findings.extend(
        ReasonSummary(
            reason.name.lower(),
            reason.sentence,
            reason.is_explained,
            occurrences[reason].rows,
            dict(occurrences[reason].columns.most_common()),
            [
                RowLocation(locate(old, old_position), locate(new, new_position))
                for old_position, new_position in occurrences[reason].locations
            ],
        )
        for reason in Reason
        if reason in occurrences
    )
    return report


def list_differing_columns(
    reason: Reason, old: Fingerprint | None, new: Fingerprint | None
) -> list[str]:
    """List the columns in which two rows differ for this reason."""
    if old is None or new is None:
        return []
    if reason in NUMBER_REASONS:
        return [NUMBER]
    if reason is Reason.RAW:
        return ["raw_healthkit_record"]
    return old.list_non_text_columns() if reason is Reason.TEXT else old.list_differing_columns(new)


def find_position(row: Fingerprint | None) -> tuple[int, int]:
    return NOWHERE if row is None else (row.file, row.line)


def locate(side: Side, at: tuple[int, int]) -> str | None:
    return None if at == NOWHERE else side.locate(*at)
