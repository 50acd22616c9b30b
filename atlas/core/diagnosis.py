"""The result of checking the whole flow: one outcome for each requirement.

It contains no secret, token or sub: a user, and the folder of a user's files, is a keyed hash.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from atlas.core.status import ServiceVerdict

Verdict = Literal["pass", "warn", "fail", "unknown"]
Evidence = tuple[tuple[str, str], ...]  # names and values that were observed, in reading order

EXIT_CODE = 10  # plus the number of the first step that fails


class CheckOutcome(Struct, frozen=True):
    """The outcome of a step. `to_do` repairs it, or is a recommendation."""

    verdict: Verdict
    reason: str
    to_do: str = ""


class CheckFailed(Exception):
    """A check failed, and the cause is known.

    `is_outage`: the other system is down or busy, so nothing needs to be repaired on our side.
    """

    def __init__(
        self, reason: str, to_do: str, evidence: Evidence = (), *, is_outage: bool = False
    ) -> None:
        super().__init__(reason)
        self.outcome = CheckOutcome("fail", reason, to_do)
        self.evidence = evidence
        self.is_outage = is_outage


class CheckResult(Struct, frozen=True):
    """The result of a step. The numbers are fixed, because exit codes are derived from them."""

    number: int
    name: str
    verdict: Verdict
    reason: str
    evidence: Evidence = ()
    to_do: str = ""


class Section(Struct, frozen=True):
    """Additional facts for the reader, shown after the steps."""

    heading: str
    facts: Evidence


class Diagnosis(Struct, frozen=True):
    """All steps in their order, the verdict, and sections with additional facts."""

    at: datetime
    version: str
    steps: tuple[CheckResult, ...]
    verdict: ServiceVerdict
    sections: tuple[Section, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 unless a step fails. Warnings and unknown results do not count."""
        failing = [step.number for step in self.steps if step.verdict == "fail"]
        return EXIT_CODE + min(failing) if failing else 0


class DiagnosisRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Optional inputs of a diagnosis: a phone's token, the URL that phones use, a DPoP proof."""

    token: str | None = None
    url: str | None = None
    proof: str | None = None
