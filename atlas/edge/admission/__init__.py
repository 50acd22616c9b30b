"""Admission checks, the cheapest refusal first.

load_shedder   before a token is looked at: would it be done in time?
rate_limiter   of a user whom we know: has he sent too much of late?
quota          of a body (runtime/quota.py): is there memory for it?
"""

from dataclasses import dataclass

from atlas.core.picture import Press
from atlas.edge.admission.load_shedder import WAIT_SECONDS_MAX, LoadShedder
from atlas.edge.admission.rate_limiter import RateLimiter
from atlas.runtime import Quota

__all__ = ["WAIT_SECONDS_MAX", "Admission", "LoadShedder", "RateLimiter"]


@dataclass(frozen=True, slots=True)
class Admission:
    shedder: LoadShedder
    rate: RateLimiter
    quota: Quota

    def check_load(self) -> None:
        """Raises Overloaded. Bodies that wait to be read count as exports in flight."""
        self.shedder.check(self.quota.waiting)

    def load(self) -> Press:
        """How full it is just now."""
        return Press(self.shedder.in_flight, self.quota.waiting, self.quota.bytes)
