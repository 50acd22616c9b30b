"""Matches the rows of both sides by their fingerprints, and classifies what is left over.

Fingerprints are stored in 256 buckets, by the first byte of their key, and unpacked one bucket at a
time to save memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from atlas.comparison.columns import NUMBER_REASONS, ONE_SIDED_REASONS
from atlas.comparison.fingerprints import LAYOUT, Fingerprint
from atlas.comparison.reasons import Reason

Fingerprints = list[Fingerprint]  # rows of one side that hold the same record of the same user
Pair = tuple[Fingerprint | None, Fingerprint | None]  # one of OLD and one of NEW
ClassifiedPair = tuple[Pair, list[Reason]]  # no reasons: the rows are the same
BUCKETS = 256
COLUMN_REASONS = {*NUMBER_REASONS, Reason.TEXT}
MATCH_KEYS: tuple[Callable[[Fingerprint], object], ...] = (
    lambda row: (row.exact, row.raw),
    lambda row: row.exact,
    lambda row: row.expected,
)


class RowBuckets:
    """The fingerprints of one side. Reading a bucket empties it."""

    __slots__ = ("buckets", "rows")

    def __init__(self) -> None:
        self.buckets = [bytearray() for _ in range(BUCKETS)]
        self.rows = 0

    def add(self, packed: bytes) -> None:
        self.buckets[packed[0]] += packed
        self.rows += 1

    def take(self, number: int) -> bytes:
        bucket, self.buckets[number] = self.buckets[number], bytearray()
        return bytes(bucket)


def classify(old: RowBuckets, new: RowBuckets) -> Iterator[ClassifiedPair]:
    """Classify every row of both sides once."""
    for number in range(BUCKETS):
        groups: dict[bytes, tuple[Fingerprints, Fingerprints]] = {}
        for side, bucket in enumerate((old.take(number), new.take(number))):
            for fields in LAYOUT.iter_unpack(bucket):
                row = Fingerprint(*fields)
                groups.setdefault(row.key, ([], []))[side].append(row)
        for olds, news in groups.values():
            yield from classify_record(olds, news)


def classify_record(olds: Fingerprints, news: Fingerprints) -> Iterator[ClassifiedPair]:
    """Classify the rows of one record: first equal rows, then surplus rows, then the rest.

    A retry is another export of the old service, with another timestamp. Rows that occur twice
    within one export of the old service must also occur twice in Atlas.
    """
    if not olds or not news:
        yield from (((old, None), [explain_old_only(old)]) for old in olds)
        yield from classify_new_only(news)
        return
    pairs, left, over = pair_rows(olds, news)
    yield from ((pair, explain_differences(*pair)) for pair in pairs)
    if not left and not over:
        return
    counts = Counter(old.expected for old, _ in pairs)
    known = {digest for old in olds for digest in (old.expected, old.exact)}
    yield from (((None, new), [Reason.DOUBLED]) for new in over if new.expected in known)
    unknown = [new for new in over if new.expected not in known]
    unlike = [old for old in left if not counts[old.expected]]
    both = min(len(unlike), len(unknown))
    for old, new in zip(unlike[:both], unknown[:both], strict=True):
        yield (old, new), [Reason.DIFFERS]
    yield from (((None, new), [explain_new_only(new)]) for new in unknown[both:])
    repeated = [old for old in left if counts[old.expected]] + unlike[both:]
    counts.update(old.expected for old in unlike[:both])
    yield from (((old, None), [reason]) for old, reason in classify_surplus(repeated, olds, counts))


def pair_rows(
    olds: Fingerprints, news: Fingerprints
) -> tuple[list[tuple[Fingerprint, Fingerprint]], Fingerprints, Fingerprints]:
    """Pair rows, the closest matches first. Returns the pairs, and what is left on each side."""
    pairs = []
    for match_key in MATCH_KEYS:
        waiting: dict[object, Fingerprints] = {}
        for new in reversed(news):
            waiting.setdefault(match_key(new), []).append(new)
        left = []
        for old in olds:
            if candidates := waiting.get(match_key(old)):
                pairs.append((old, candidates.pop()))
            else:
                left.append(old)
        olds, news = left, [new for rest in waiting.values() for new in reversed(rest)]
        if not olds or not news:
            break
    return pairs, olds, news


def explain_differences(old: Fingerprint, new: Fingerprint) -> list[Reason]:
    """List the reasons for which two paired rows differ."""
    raw = [Reason.RAW] if old.raw != new.raw else []
    if old.exact == new.exact:
        return raw
    return [reason for reason in old.list_reasons() if reason in COLUMN_REASONS] + raw


def classify_surplus(
    left: Fingerprints, olds: Fingerprints, counts: Counter[bytes]
) -> Iterator[tuple[Fingerprint, Reason]]:
    """Classify rows of which the old service has more: they are retries, or Atlas lacks them."""
    needed = count_per_export(olds)
    for old in left:
        is_lacking = counts[old.expected] < needed[old.expected]
        counts[old.expected] += is_lacking
        yield old, explain_old_only(old) if is_lacking else Reason.RETRIED


def classify_new_only(news: Fingerprints) -> Iterator[ClassifiedPair]:
    """Classify rows that only Atlas has: lost by the old service, or in too many exports."""
    needed = count_per_export(news)
    for new in news:
        needed[new.expected] -= 1
        is_too_many = needed[new.expected] < 0
        yield (None, new), [Reason.DOUBLED if is_too_many else explain_new_only(new)]


def count_per_export(rows: Fingerprints) -> Counter[bytes]:
    """Count how often each row occurs within one export, at most."""
    counts = Counter[bytes]()
    for (ought, _), times in Counter((row.expected, row.moment) for row in rows).items():
        counts[ought] = max(counts[ought], times)
    return counts


def explain_old_only(row: Fingerprint) -> Reason:
    reasons = [each for each in row.list_reasons() if each in ONE_SIDED_REASONS]
    return reasons[0] if reasons else Reason.MISSING


def explain_new_only(row: Fingerprint) -> Reason:
    return Reason.NO_RECORD if Reason.NO_RECORD in row.list_reasons() else Reason.LOST
