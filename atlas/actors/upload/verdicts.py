"""Decides the verdict on each export of a transaction. Pure."""

from collections.abc import Iterable

from atlas.actors.upload.reports import Resolution, UploadReport
from atlas.actors.upload.states import Work
from atlas.core.commits import RELEASED, Conclusion, Verdict
from atlas.core.errors import CommitRefused
from atlas.core.messages import File

INTERRUPTED = "the process ended while the group of the export was being uploaded"
UNANSWERED = "Foundry does not respond to the upload of its file"


def conclude_recovered(work: Work, tries_max: int) -> Conclusion:
    """Conclude a transaction that an earlier process or a failed effect has left."""
    is_failure = not (work.is_excused or work.present or work.transaction is None)
    return Conclusion(
        transaction=work.transaction,
        verdicts=mark_committed(work.present, work.transaction),
        default_verdict=Verdict("failed", INTERRUPTED) if is_failure else RELEASED,
        tries_max=tries_max,
    )


def conclude_uploaded(
    work: Work, report: UploadReport, resolution: Resolution, tries_max: int
) -> Conclusion:
    """Conclude a transaction that is no longer open, after its upload was reported."""
    verdicts = dict[str, Verdict]()
    if work.present or work.has_evidence:  # Foundry accepts other files, so these are at fault
        reason = UNANSWERED if report.last_error is None else str(report.last_error)
        isolated = Verdict("isolated", reason, is_unanswered=True)
        divided = Verdict("divided", reason, is_unanswered=True)
        for file in (*report.unanswered, *report.unconfirmed):
            verdict = isolated if len(file.exports) == 1 else divided
            verdicts |= {export.id: verdict for export in file.exports}
    verdicts |= judge_refusals(work, report)
    verdicts |= dict.fromkeys(resolution.moved, Verdict("moved"))
    verdicts |= dict.fromkeys((*report.corrupt, *resolution.corrupt), Verdict("corrupt"))
    verdicts |= mark_committed(work.present, work.transaction)
    for id, transaction in resolution.stored.items():
        verdicts[id] = Verdict("committed", transaction=transaction)
    default_verdict = RELEASED
    is_commit_refused = isinstance(work.error, CommitRefused)
    if is_commit_refused and not (report.refused or resolution.stored or resolution.moved):
        default_verdict = Verdict("failed", str(work.error))
    return Conclusion(work.transaction, verdicts, default_verdict, tries_max, work.has_evidence)


def mark_committed(files: Iterable[File], transaction: str | None) -> dict[str, Verdict]:
    verdict = Verdict("committed", transaction=transaction or "")
    return {export.id: verdict for file in files for export in file.exports}


def judge_refusals(work: Work, report: UploadReport) -> dict[str, Verdict]:
    """Return the verdicts on the exports of refused files.

    If a shared file is refused, it is unknown which export is at fault, so the group is divided. If
    a refused file prevents the commit of the whole group, its export is retried alone.
    """
    is_harmful = report.is_spoiled or isinstance(work.error, CommitRefused)
    is_single = len(work.group.exports) == 1
    verdicts = dict[str, Verdict]()
    for refusal in report.refused:
        if len(refusal.file.exports) > 1:
            verdict = Verdict("divided", refusal.reason)
        elif is_harmful and not is_single:
            verdict = Verdict("isolated", refusal.reason)
        else:
            verdict = Verdict("refused", refusal.reason, is_certain=refusal.is_certain)
        verdicts |= {export.id: verdict for export in refusal.file.exports}
    return verdicts
