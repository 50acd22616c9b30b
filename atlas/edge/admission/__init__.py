"""Who may come in, asked in the order of what it costs us to say no.

crowd     before anything is read or verified: is there any sense in it?
rate      a user we know: has he sent too much of late?
flight    his body: is there room for it?
"""

from dataclasses import dataclass

from atlas.core.picture import Press
from atlas.edge.admission.crowd import PATIENCE_SECONDS, Crowd
from atlas.edge.admission.flight import Flight, Held
from atlas.edge.admission.rate import Rate

__all__ = ["PATIENCE_SECONDS", "Admission", "Crowd", "Flight", "Held", "Rate"]


@dataclass(frozen=True, slots=True)
class Admission:
    crowd: Crowd
    rate: Rate
    flight: Flight

    def press(self) -> Press:
        """How full it is just now."""
        return Press(self.crowd.inside, self.flight.waiting, self.flight.bytes)
