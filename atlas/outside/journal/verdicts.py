"""The order in which the verdicts of a conclusion are carried out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import get_args

import msgspec

from atlas.core.commits import Conclusion, Verdict, VerdictKind
from atlas.outside.journal.texts import make_storable

DAMAGED_REASON = "damaged on the disk"  # of an export whose payload cannot be decrypted


def order_verdicts(
    conclusion: Conclusion, claimed: Mapping[int, str]
) -> Iterator[tuple[Verdict, list[int]]]:
    """Yield each verdict with the numbers of its exports; commits first: they are evidence.

    `claimed`: ids by number. `moved` becomes `released`: the caller has recorded the new path.
    """
    by_verdict = defaultdict[Verdict, list[int]](list)
    for number, id in claimed.items():
        by_verdict[conclusion.find_verdict(id)].append(number)
    order = list(get_args(VerdictKind))
    for verdict in sorted(by_verdict, key=lambda each: order.index(each.kind)):
        kind = "released" if verdict.kind == "moved" else verdict.kind
        reason = make_storable(verdict.reason)
        yield msgspec.structs.replace(verdict, kind=kind, reason=reason), by_verdict[verdict]
