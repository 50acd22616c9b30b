"""The comparison: every row of both sides is the same, differs as intended, or is unexplained."""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from atlas.comparison import prints
from atlas.comparison.columns import NUMBER, OF_NUMBER
from atlas.comparison.files import STEP, NotRows, Side
from atlas.comparison.pairs import Heaps, Judged, Pair, judged
from atlas.comparison.prints import Print
from atlas.comparison.reasons import Reason

PLACES_SHOWN = 3
NOWHERE = (1 << 32, 0)


class Place(Struct, frozen=True):
    """Where such a row stands, as FILE:LINE; None where it does not."""

    old: str | None
    new: str | None


class Finding(Struct, frozen=True):
    """One reason, and how often it was met. A row that differs for two of them counts at each."""

    reason: str
    sentence: str
    explained: bool
    rows: int
    columns: dict[str, int]
    places: list[Place]


class Rows(Struct):
    """How many there are on each side."""

    old: int = 0
    new: int = 0

    def take(self, pair: Pair) -> None:
        self.old += pair[0] is not None
        self.new += pair[1] is not None


class Balance(Struct, frozen=True):
    """same + as_intended + unexplained = rows, on each side."""

    rows: Rows
    same: Rows
    as_intended: Rows
    unexplained: Rows
    findings: list[Finding]

    @property
    def is_explained(self) -> bool:
        return not self.unexplained.old and not self.unexplained.new


@dataclass(slots=True)
class Met:
    """A reason, as it is met again and again."""

    rows: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    first: list[tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=list)

    def take(self, reason: Reason, pair: Pair) -> None:
        self.rows += 1
        self.columns.update(columns_of(reason, *pair))
        insort(self.first, (number_of(pair[0]), number_of(pair[1])))
        del self.first[PLACES_SHOWN:]


def compared(old: Side, new: Side, tell: Callable[[int], None] = lambda _bytes: None) -> Balance:
    """Raises NotRows. `tell` hears how many bytes of both were read.

    Of a row a hundred bytes are kept: a million rows on each side take 310 MB.
    """
    heaps = Heaps(), Heaps()
    for side, heap, printed in zip((old, new), heaps, (prints.of_old, prints.of_ours), strict=True):
        for file, line, row in side.rows():
            heap.add(printed(row, file, line))
            if heap.rows % STEP == 0:
                tell(old.bytes_read + new.bytes_read)
        if not heap.rows:
            raise NotRows(f"There are no rows in {side.name}.")
    rows = Rows(heaps[0].rows, heaps[1].rows)
    return drawn(judged(*heaps), rows, old, new)


def drawn(all_rows: Iterable[Judged], rows: Rows, old: Side, new: Side) -> Balance:
    balance, met = Balance(rows, Rows(), Rows(), Rows(), []), dict[Reason, Met]()
    for pair, reasons in all_rows:
        for reason in reasons:
            met.setdefault(reason, Met()).take(reason, pair)
        if not reasons:
            balance.same.take(pair)
        elif all(reason.is_explained for reason in reasons):
            balance.as_intended.take(pair)
        else:
            balance.unexplained.take(pair)
    balance.findings.extend(
        Finding(
            reason.name.lower(),
            reason.sentence,
            reason.is_explained,
            met[reason].rows,
            dict(met[reason].columns.most_common()),
            [Place(place(old, at), place(new, there)) for at, there in met[reason].first],
        )
        for reason in Reason
        if reason in met
    )
    return balance


def columns_of(reason: Reason, old: Print | None, new: Print | None) -> list[str]:
    """The columns in which two rows differ for this reason."""
    if old is None or new is None:
        return []
    if reason in OF_NUMBER:
        return [NUMBER]
    if reason is Reason.RAW:
        return ["raw_healthkit_record"]
    return old.texts() if reason is Reason.TEXT else old.other_than(new)


def number_of(row: Print | None) -> tuple[int, int]:
    return NOWHERE if row is None else (row.file, row.line)


def place(side: Side, at: tuple[int, int]) -> str | None:
    return None if at == NOWHERE else side.place(*at)
