"""Publishes the outcome of exports: to waiting requests, and as events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atlas.core import events
from atlas.core.commits import RELEASED, Conclusion, Verdict, VerdictKind
from atlas.core.events import FailureCause, Watch
from atlas.core.messages import ClaimedExport, CommitGroup, Receipt
from atlas.core.ports import Clock
from atlas.runtime import CompletionRegistry

FAILURES: Mapping[VerdictKind, FailureCause] = {
    "refused": "refused",
    "divided": "refused",
    "isolated": "refused",
    "failed": "group_failed",
}


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes outcomes. Call it only with outcomes that are durable in the journal."""

    completions: CompletionRegistry[Receipt]
    now: Clock
    watch: Watch

    def publish_conclusion(
        self, conclusion: Conclusion, group: CommitGroup, receipts: Iterable[Receipt]
    ) -> None:
        """Publish the end of a group; `receipts` are those of committed or set-aside exports."""
        waiting = {export.id: export for export in group.exports}
        is_alone = len(waiting) == 1
        for receipt in receipts:
            export = waiting.pop(receipt.id)
            self.publish(receipt, export, conclusion.verdict_on(export.id))
        for export in waiting.values():
            verdict = conclusion.verdict_on(export.id)
            if verdict.kind in FAILURES:
                self.publish_failure(export, verdict, is_alone=is_alone)

    def publish_failure(self, export: ClaimedExport, verdict: Verdict, *, is_alone: bool) -> None:
        cause: FailureCause = "unanswered" if verdict.is_unanswered else FAILURES[verdict.kind]
        tries = count_tries(export, verdict)
        about = export.id, export.correlation_id, tries, is_alone
        self.watch(events.ExportFailed(*about, cause, verdict.reason))

    def publish(self, receipt: Receipt, export: ClaimedExport, verdict: Verdict = RELEASED) -> None:
        """Publish that an export is committed, or set aside by this verdict."""
        self.completions.resolve(receipt.id, receipt)
        if receipt.status == "committed":
            self.watch(
                events.ExportCommitted(
                    export.id,
                    export.correlation_id,
                    receipt.transaction or "",
                    receipt.path,
                    export.records,
                    export.bytes,
                    export.user,
                    (self.now() - receipt.at).total_seconds(),
                    export.trace,
                )
            )
        elif verdict.kind == "corrupt":
            self.watch(events.JournalDamaged("an export", export.id, export.correlation_id))
        else:
            about = export.id, export.correlation_id, count_tries(export, verdict)
            self.watch(events.ExportSetAside(*about, verdict.reason))


def count_tries(export: ClaimedExport, verdict: Verdict) -> int:
    """Return the number of failures that count, including that of this verdict."""
    return export.tries + (verdict.kind != "isolated")
