"""The sizes of groups: how many exports a group has, and which of them come first."""

from collections.abc import Iterator
from typing import NamedTuple

from atlas.core.messages import GroupLimits

SMALL_BYTES = 1024 * 1024  # a phone sends less than this per day
SMALL_SHARE = 0.75  # of the bytes of a group; the rest is reserved for large exports
LATE_SHARE = 1 + 1 / 16  # of the byte limit, after the transaction has begun
UNLIMITED = 2**62  # bytes; larger than any export
REFUSED = 1  # isolation of an export whose file Foundry has refused
REFUSED_MAX = 64  # such exports in a group: one wave of uploads
DIVISORS = {2: 8, 3: 64}  # of the export limit, by isolation; from 4 on, an export is alone


class SizeClass(NamedTuple):
    """Exports smaller than `bytes_end` are claimed until the group has `bytes_max`."""

    bytes_max: int
    bytes_end: int


def size_classes(limits: GroupLimits, *, is_late: bool) -> Iterator[SizeClass]:
    """Yield the size classes of fresh exports, small ones first.

    So a daily sync need not wait for years of data. A share of the group is reserved for large
    exports, so that they do not starve. A late claim may exceed the byte limit by a sixteenth for
    small exports.
    """
    small_share = LATE_SHARE if is_late else SMALL_SHARE
    yield SizeClass(int(limits.bytes_max * small_share), SMALL_BYTES)
    yield SizeClass(limits.bytes_max, UNLIMITED)


def isolated_exports_max(limits: GroupLimits, isolation: int) -> int:
    """Return the number of failed exports that are retried in one group."""
    if isolation <= REFUSED:
        return REFUSED_MAX
    return max(1, limits.exports_max // DIVISORS.get(isolation, limits.exports_max))
