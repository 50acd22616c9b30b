"""Publishes the outcomes of exports to waiting requests, and as events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atlas.core import events
from atlas.core.commits import RELEASED, Conclusion, Verdict, VerdictKind
from atlas.core.events import EventSink, FailureCause
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
    """Publishes outcomes. They must be durable in the journal already."""

    completions: CompletionRegistry[Receipt]
    clock: Clock
    emit: EventSink

    def publish_conclusion(
        self, conclusion: Conclusion, group: CommitGroup, receipts: Iterable[Receipt]
    ) -> None:
        """Publish the end of a group. `receipts`: those of committed and set-aside exports."""
        remaining = {export.id: export for export in group.exports}
        is_alone = len(remaining) == 1
        for receipt in receipts:
            export = remaining.pop(receipt.id)
            self.publish(receipt, export, conclusion.find_verdict(export.id))
        for export in remaining.values():
            verdict = conclusion.find_verdict(export.id)
            if verdict.kind in FAILURES:
                self.publish_failure(export, verdict, is_alone=is_alone)

    def publish_failure(self, export: ClaimedExport, verdict: Verdict, *, is_alone: bool) -> None:
        cause: FailureCause = "unanswered" if verdict.is_unanswered else FAILURES[verdict.kind]
        self.emit(
            events.ExportFailed(
                export.id,
                export.correlation_id,
                count_tries(export, verdict),
                is_alone,
                cause,
                verdict.reason,
            )
        )

    def publish(self, receipt: Receipt, export: ClaimedExport, verdict: Verdict = RELEASED) -> None:
        """Publish that an export was committed, or was set aside by this verdict."""
        self.completions.resolve(receipt.id, receipt)
        if receipt.status == "committed":
            self.emit(
                events.ExportCommitted(
                    export.id,
                    export.correlation_id,
                    receipt.transaction or "",
                    receipt.path,
                    export.records,
                    export.bytes,
                    export.user,
                    (self.clock() - receipt.at).total_seconds(),
                    export.trace,
                )
            )
        elif verdict.kind == "corrupt":
            self.emit(events.JournalDamaged("an export", export.id, export.correlation_id))
        else:
            tries = count_tries(export, verdict)
            self.emit(
                events.ExportSetAside(export.id, export.correlation_id, tries, verdict.reason)
            )


def count_tries(export: ClaimedExport, verdict: Verdict) -> int:
    """Return the number of tries that count, including the one of this verdict."""
    return export.tries + (verdict.kind != "isolated")
