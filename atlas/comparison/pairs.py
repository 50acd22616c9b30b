"""The prints of both sides, brought together: which rows are one, and what is left over.

They are kept in as many heaps as a byte has values, by the first byte of their key, so that only
one heap after the other is taken apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from atlas.comparison.columns import OF_NUMBER, OF_ONE_SIDE
from atlas.comparison.prints import LAYOUT, Print
from atlas.comparison.reasons import Reason

Group = list[Print]  # rows of one side that hold the same record of the same user
Pair = tuple[Print | None, Print | None]  # one of OLD and one of NEW
Judged = tuple[Pair, list[Reason]]  # no reason: they are the same
HEAPS = 256
OF_COLUMNS = {*OF_NUMBER, Reason.TEXT}
LIKENESSES: tuple[Callable[[Print], object], ...] = (
    lambda row: (row.exact, row.raw),
    lambda row: row.exact,
    lambda row: row.ought,
)


class Heaps:
    """All rows of one side. It is emptied as it is read."""

    __slots__ = ("heaps", "rows")

    def __init__(self) -> None:
        self.heaps = [bytearray() for _ in range(HEAPS)]
        self.rows = 0

    def add(self, kept: bytes) -> None:
        self.heaps[kept[0]] += kept
        self.rows += 1

    def take(self, number: int) -> bytes:
        heap, self.heaps[number] = self.heaps[number], bytearray()
        return bytes(heap)


def judged(old: Heaps, new: Heaps) -> Iterator[Judged]:
    """Each row of both sides, once."""
    for number in range(HEAPS):
        groups: dict[bytes, tuple[Group, Group]] = {}
        for side, heap in enumerate((old.take(number), new.take(number))):
            for fields in LAYOUT.iter_unpack(heap):
                row = Print(*fields)
                groups.setdefault(row.key, ([], []))[side].append(row)
        for olds, news in groups.values():
            yield from group_judged(olds, news)


def group_judged(olds: Group, news: Group) -> Iterator[Judged]:
    """The rows of one record: what is alike, then what is there too often, and only then the rest.

    A retry is another export of the old service, at another moment: what one export of it holds
    twice, Atlas must have twice.
    """
    if not olds or not news:
        yield from (((old, None), [only_old(old)]) for old in olds)
        yield from unknown_to_old(news)
        return
    pairs, left, over = alike(olds, news)
    yield from ((pair, differences(*pair)) for pair in pairs)
    if not left and not over:
        return
    found = Counter(old.ought for old, _ in pairs)
    known = {digest for old in olds for digest in (old.ought, old.exact)}
    yield from (((None, new), [Reason.DOUBLED]) for new in over if new.ought in known)
    strange = [new for new in over if new.ought not in known]
    unlike = [old for old in left if not found[old.ought]]
    both = min(len(unlike), len(strange))
    for old, new in zip(unlike[:both], strange[:both], strict=True):
        yield (old, new), [Reason.DIFFERS]
    yield from (((None, new), [only_new(new)]) for new in strange[both:])
    again = [old for old in left if found[old.ought]] + unlike[both:]
    found.update(old.ought for old in unlike[:both])
    yield from (((old, None), [reason]) for old, reason in too_many(again, olds, found))


def alike(olds: Group, news: Group) -> tuple[list[tuple[Print, Print]], Group, Group]:
    """Pairs, the most alike first, and what is left on each side."""
    pairs = []
    for likeness in LIKENESSES:
        waiting: dict[object, Group] = {}
        for new in reversed(news):
            waiting.setdefault(likeness(new), []).append(new)
        left = []
        for old in olds:
            if found := waiting.get(likeness(old)):
                pairs.append((old, found.pop()))
            else:
                left.append(old)
        olds, news = left, [new for rest in waiting.values() for new in reversed(rest)]
        if not olds or not news:
            break
    return pairs, olds, news


def differences(old: Print, new: Print) -> list[Reason]:
    """Why two rows of one record differ that are alike."""
    raw = [Reason.RAW] if old.raw != new.raw else []
    if old.exact == new.exact:
        return raw
    return [reason for reason in old.reasons() if reason in OF_COLUMNS] + raw


def too_many(left: Group, olds: Group, found: Counter[bytes]) -> Iterator[tuple[Print, Reason]]:
    """Rows of the old service which Atlas has less often: retries, or lacking."""
    needed = at_once(olds)
    for old in left:
        is_lacking = found[old.ought] < needed[old.ought]
        found[old.ought] += is_lacking
        yield old, only_old(old) if is_lacking else Reason.RETRIED


def unknown_to_old(news: Group) -> Iterator[Judged]:
    """Rows that it lost; of those that stand in several exports of Atlas one had been enough."""
    needed = at_once(news)
    for new in news:
        needed[new.ought] -= 1
        is_too_many = needed[new.ought] < 0
        yield (None, new), [Reason.DOUBLED if is_too_many else only_new(new)]


def at_once(rows: Group) -> Counter[bytes]:
    """How often each row stands in one and the same export, at most."""
    found = Counter[bytes]()
    for (ought, _), times in Counter((row.ought, row.moment) for row in rows).items():
        found[ought] = max(found[ought], times)
    return found


def only_old(row: Print) -> Reason:
    found = [each for each in row.reasons() if each in OF_ONE_SIDE]
    return found[0] if found else Reason.MISSING


def only_new(row: Print) -> Reason:
    return Reason.NO_RECORD if Reason.NO_RECORD in row.reasons() else Reason.LOST
