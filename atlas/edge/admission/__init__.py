"""Who may come in, asked in the order of what it costs us to say no.

crowd     before anything is read or verified: is there any sense in it?
rate      a user we know: has he sent too much of late?
flight    his body: is there room for it?
"""

from atlas.edge.admission.crowd import Crowd
from atlas.edge.admission.flight import Flight, Held
from atlas.edge.admission.rate import Rate

__all__ = ["Crowd", "Flight", "Held", "Rate"]
