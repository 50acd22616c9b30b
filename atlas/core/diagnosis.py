"""What a walk through the whole flow finds: for each thing that must hold, whether it does.

Nothing in it is a secret, a token or a sub: a user is a keyed hash, and so is the folder of his
files.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Verdict = Literal["pass", "warn", "fail", "unknown"]
Evidence = tuple[tuple[str, str], ...]  # what was seen, each by its name, in an order worth reading

EXIT_CODE = 10  # and the number of the first step that fails


class CheckOutcome(Struct, frozen=True):
    """The result of a step. `to_do` mends it, or is worth doing all the same."""

    verdict: Verdict
    reason: str
    to_do: str = ""


class CheckFailed(Exception):
    """Something is wrong, and it is known what.

    `is_outage`: the other side is down or busy, so that nothing is to be mended on ours.
    """

    def __init__(
        self, reason: str, to_do: str, evidence: Evidence = (), *, is_outage: bool = False
    ) -> None:
        super().__init__(reason)
        self.finding = CheckOutcome("fail", reason, to_do)
        self.evidence = evidence
        self.is_outage = is_outage


class CheckResult(Struct, frozen=True):
    """A step of the walk. The numbers are fixed: exit codes are made of them."""

    number: int
    name: str
    verdict: Verdict
    reason: str
    evidence: Evidence = ()
    to_do: str = ""


class Section(Struct, frozen=True):
    """What somebody wants to know who reads on behind the steps."""

    heading: str
    facts: Evidence


class Diagnosis(Struct, frozen=True):
    """All steps in their order, and the page that used to be written by hand."""

    at: datetime
    version: str
    steps: tuple[CheckResult, ...]
    sections: tuple[Section, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when nothing fails; a warning does not, nor does what is unknown."""
        failing = [step.number for step in self.steps if step.verdict == "fail"]
        return EXIT_CODE + min(failing) if failing else 0


class DiagnosisRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What to look at beside the service: a phone's token, the address that phones use."""

    token: str | None = None
    url: str | None = None
