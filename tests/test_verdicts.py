"""Verdicts on the exports of a transaction, from the evidence."""

import pytest
from msgspec.structs import replace

from atlas.actors.upload.reports import FileRefusal, Resolution, UploadReport
from atlas.actors.upload.states import Work
from atlas.actors.upload.verdicts import (
    INTERRUPTED,
    UNANSWERED,
    conclude_recovered,
    conclude_uploaded,
)
from atlas.core.commits import RELEASED, Conclusion, Verdict
from atlas.core.errors import CommitRefused, FoundryError
from atlas.core.messages import ClaimedExport, CommitGroup, File

T, TRIES_MAX = "t1", 5
A, B, C = (File(f"{id}.ndjson", 1, (ClaimedExport(id, 1),)) for id in "abc")
AB = File("shared.ndjson", 2, (*A.exports, *B.exports))
COMMITTED = Verdict("committed", transaction=T)
REFUSED, CERTAIN = Verdict("refused", "no"), Verdict("refused", "no", is_certain=True)
ISOLATED = Verdict("isolated", "no")
UNHEARD = Verdict("isolated", UNANSWERED, is_unanswered=True)
DIVIDED, MOVED, CORRUPT = Verdict("divided", "no"), Verdict("moved"), Verdict("corrupt")
ELSEWHERE = Verdict("committed", transaction="t0")
NOT_NOW = CommitRefused("not now")
FAILED = Verdict("failed", "not now")


def refusal(file, *, is_certain=False):
    return FileRefusal(file, "no", is_certain)


RECOVERED = {
    "a crash with nothing committed speaks against the group": (
        *({"is_excused": False, "transaction": T}, {}),
        Verdict("failed", INTERRUPTED),
    ),
    "a failure that is not a crash does not": ({"transaction": T}, {}, RELEASED),
    "nor a crash before anything was begun": ({"is_excused": False}, {}, RELEASED),
    "nor one after the commit": (
        *({"is_excused": False, "transaction": T, "present": (A,)}, {"a": COMMITTED}),
        RELEASED,
    ),
    "a shared file commits all its exports": (
        *({"transaction": T, "present": (AB, C)}, dict.fromkeys("abc", COMMITTED)),
        RELEASED,
    ),
}


@pytest.mark.parametrize(("known", "verdicts", "others"), RECOVERED.values(), ids=RECOVERED)
def test_a_transaction_that_was_left(known, verdicts, others):
    work = Work(group=CommitGroup((A, B, C)), **known)
    expected = Conclusion(known.get("transaction"), verdicts, others, TRIES_MAX)
    assert conclude_recovered(work, TRIES_MAX) == expected


# work, report, resolution -> verdicts, others
UPLOADED = {
    "all is committed": (
        *({"present": (A, B)}, {"stored": (A, B)}, {}),
        *({"a": COMMITTED, "b": COMMITTED}, RELEASED),
    ),
    "a shared file is": (
        {"present": (AB,)},
        {"stored": (AB,)},
        {},
        {"a": COMMITTED, "b": COMMITTED},
        RELEASED,
    ),
    "nothing was committed, and nobody knows why": ({}, {"stored": (A,)}, {}, {}, RELEASED),
    "silence about one file, when others are committed, isolates it": (
        *({"present": (A,)}, {"stored": (A,), "unanswered": (B,)}, {}),
        *({"a": COMMITTED, "b": UNHEARD}, RELEASED),
    ),
    "so does an unconfirmed file that is not there": (
        *({"present": (A,)}, {"stored": (A,), "unconfirmed": (B,)}, {}),
        *({"a": COMMITTED, "b": UNHEARD}, RELEASED),
    ),
    "with the last error as the reason": (
        *({"present": (A,)}, {"unanswered": (B,), "last_error": FoundryError("no")}, {}),
        *({"a": COMMITTED, "b": replace(UNHEARD, reason="no")}, RELEASED),
    ),
    "an interrupted upload speaks against nobody": (
        *({"present": (A,)}, {"stored": (A,), "interrupted": (B,)}, {}),
        *({"a": COMMITTED}, RELEASED),
    ),
    "a file whose answer was lost, but that is there, is committed": (
        *({"present": (A, B)}, {"unanswered": (A,), "unconfirmed": (B,)}, {}),
        *({"a": COMMITTED, "b": COMMITTED}, RELEASED),
    ),
    "a refused file is its export's fault": (
        *({"present": (A,)}, {"stored": (A,), "refused": (refusal(B),)}, {}),
        *({"a": COMMITTED, "b": REFUSED}, RELEASED),
    ),
    "the more so if Foundry blames the file": (
        *({}, {"refused": (refusal(B, is_certain=True),)}, {}),
        *({"b": CERTAIN}, RELEASED),
    ),
    "of a shared file nobody knows whose": (
        *({}, {"refused": (refusal(AB, is_certain=True),)}, {}),
        *({"a": DIVIDED, "b": DIVIDED}, RELEASED),
    ),
    "a file that spoils the transaction goes alone first": (
        *({}, {"stored": (A,), "refused": (refusal(B),), "is_spoiled": True}, {}),
        *({"b": ISOLATED}, RELEASED),
    ),
    "and is refused when it is alone": (
        *({"group": CommitGroup((B,))}, {"refused": (refusal(B),), "is_spoiled": True}, {}),
        *({"b": REFUSED}, RELEASED),
    ),
    "so does a refused one of a group that is not committed; the others are excused by it": (
        *({"error": NOT_NOW}, {"stored": (A,), "refused": (refusal(B),)}, {}),
        *({"b": ISOLATED}, RELEASED),
    ),
    "a shared one is divided even then": (
        *({"error": NOT_NOW}, {"stored": (C,), "refused": (refusal(AB),)}, {}),
        *({"a": DIVIDED, "b": DIVIDED}, RELEASED),
    ),
    "a commit that is refused without a reason speaks against all": (
        *({"error": NOT_NOW}, {"stored": (A, B)}, {}),
        *({}, FAILED),
    ),
    "another error does not": (
        *({"error": FoundryError("no")}, {"stored": (A, B)}, {}),
        *({}, RELEASED),
    ),
    "a path that is taken is the reason why a commit is refused": (
        *({"error": NOT_NOW}, {"stored": (A, B)}, {"moved": ("a",)}),
        *({"a": MOVED}, RELEASED),
    ),
    "so are rows that stand there already": (
        *({"error": NOT_NOW}, {"stored": (A, B)}, {"stored": {"a": "t0"}}),
        *({"a": ELSEWHERE}, RELEASED),
    ),
    "a corrupt export is none": (
        *({"error": NOT_NOW}, {"stored": (A,), "corrupt": ("b",)}, {}),
        *({"b": CORRUPT}, FAILED),
    ),
    "corrupt ones are set aside": (
        *({"present": (A,)}, {"stored": (A,), "corrupt": ("b",)}, {"corrupt": ("c",)}),
        *({"a": COMMITTED, "b": CORRUPT, "c": CORRUPT}, RELEASED),
    ),
    "what stands in the transaction is committed, whatever else is said of it": (
        *({"present": (A,)}, {"unanswered": (A,)}, {"moved": ("a",)}),
        *({"a": COMMITTED}, RELEASED),
    ),
    "what stands in another one is committed there": (
        *({"present": (B,)}, {"stored": (B,), "unanswered": (A,)}, {"stored": {"a": "t0"}}),
        *({"a": ELSEWHERE, "b": COMMITTED}, RELEASED),
    ),
    "a path that is taken is moved, and not isolated": (
        *({"present": (B,)}, {"stored": (B,), "unconfirmed": (A,)}, {"moved": ("a",)}),
        *({"a": MOVED, "b": COMMITTED}, RELEASED),
    ),
}


@pytest.mark.parametrize(
    ("known", "report", "resolution", "verdicts", "others"), UPLOADED.values(), ids=UPLOADED
)
@pytest.mark.parametrize("has_evidence", [True, False])
def test_a_transaction_whose_upload_was_reported(
    known, report, resolution, verdicts, others, has_evidence
):
    known = {"group": CommitGroup((A, B, C)), **known}
    work = Work(transaction=T, has_evidence=has_evidence, **known)
    given = work, UploadReport(**report), Resolution(**resolution), TRIES_MAX
    assert conclude_uploaded(*given) == Conclusion(T, verdicts, others, TRIES_MAX, has_evidence)


@pytest.mark.parametrize("has_evidence", [False, True])
@pytest.mark.parametrize(("file", "kind"), [(A, "isolated"), (AB, "divided")])
def test_silence_about_all_is_about_these_files_only_if_foundry_took_a_probe(
    has_evidence, file, kind
):
    work = Work(group=CommitGroup((file,)), transaction=T, has_evidence=has_evidence)
    found = conclude_uploaded(work, UploadReport(unanswered=(file,)), Resolution(), TRIES_MAX)
    verdict = Verdict(kind, UNANSWERED, is_unanswered=True)
    expected = {export.id: verdict for export in file.exports} if has_evidence else {}
    assert (found.verdicts, found.default_verdict) == (expected, RELEASED)
