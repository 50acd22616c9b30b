"""Every verdict that leaves an export waiting is published as a failure."""

from datetime import timedelta

import pytest

from atlas.actors.upload.publisher import Publisher
from atlas.core.commits import Conclusion, Verdict
from atlas.core.events import ExportCommitted, ExportFailed
from atlas.core.messages import ClaimedExport, CommitGroup, File, Receipt
from atlas.runtime import CompletionRegistry
from tests.support.exports import NOON


def published(verdict: Verdict, exports: int = 1) -> list[ExportFailed]:
    claimed = [ClaimedExport(f"e{n}", 1, correlation_id=f"c{n}", tries=2) for n in range(exports)]
    group = CommitGroup((File("p", exports, tuple(claimed)),))
    told = list[ExportFailed]()
    publisher = Publisher(CompletionRegistry(), lambda: NOON, told.append)
    publisher.publish_conclusion(Conclusion(None, {}, verdict), group, ())
    return told


@pytest.mark.parametrize(
    ("verdict", "cause", "tries"),
    [
        (Verdict("refused", "why"), "refused", 3),
        (Verdict("divided", "why"), "refused", 3),
        (Verdict("isolated", "why"), "refused", 2),
        (Verdict("isolated", "why", is_unanswered=True), "unanswered", 2),
        (Verdict("failed", "why"), "group_failed", 3),
    ],
    ids=lambda value: value.kind if isinstance(value, Verdict) else "",
)
def test_a_failure_is_told_with_its_cause_its_reason_and_the_failures_that_count(
    verdict, cause, tries
):
    assert published(verdict) == [ExportFailed("e0", "c0", tries, True, cause, "why")]


@pytest.mark.parametrize("kind", ["released", "moved"])
def test_an_export_that_goes_again_as_before_has_not_failed(kind):
    assert published(Verdict(kind)) == []


def test_of_a_group_each_export_is_told_and_none_was_alone():
    told = published(Verdict("failed", "why"), exports=3)

    assert [(each.id, each.is_alone) for each in told] == [(f"e{n}", False) for n in range(3)]


def test_a_commit_is_told_with_its_user_and_the_seconds_since_it_was_accepted():
    claimed = ClaimedExport("e", 900, 11, "c", user="auth0|ada")
    receipt = Receipt("e", "committed", NOON, "p", 11, 0, transaction="t")
    told = list[ExportCommitted]()
    now = NOON + timedelta(seconds=4.5)
    Publisher(CompletionRegistry(), lambda: now, told.append).publish(receipt, claimed)

    assert told == [ExportCommitted("e", "c", "t", "p", 11, 900, "auth0|ada", 4.5)]
