"""Actors over bounded channels.

Three rules, and nothing here knows about health data:

1. A message moves one stage forward or its reply is settled. No reply is left waiting.
2. Every channel is bounded. A full one makes its sender wait, back to the socket.
3. Closing the first address ends the pipeline: each stage drains, then closes the next.

`channels.py` is where messages wait, `replies.py` where outcomes go, `supervision.py` what a crash
costs, `stages.py` the actors, `together.py` work that is done side by side, `quota.py` what limits
bytes in memory, `pacer.py` what limits how many begin in a second.
"""

from anyio import Lock

from atlas.runtime.channels import Channel
from atlas.runtime.pacer import Pacer
from atlas.runtime.quota import Quota, Reservation
from atlas.runtime.replies import Bell, Pending, Promise, Promises, Reply
from atlas.runtime.stages import Address, Envelope, OnWork, Queue, Rescue, Stage, Stages
from atlas.runtime.supervision import OnCrash, Restarts, answer_crashes, supervise
from atlas.runtime.together import side_by_side

__all__ = [
    "Address",
    "Bell",
    "Channel",
    "Envelope",
    "Lock",
    "OnCrash",
    "OnWork",
    "Pacer",
    "Pending",
    "Promise",
    "Promises",
    "Queue",
    "Quota",
    "Reply",
    "Rescue",
    "Reservation",
    "Restarts",
    "Stage",
    "Stages",
    "answer_crashes",
    "side_by_side",
    "supervise",
]
