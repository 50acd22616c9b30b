"""Actors connected by bounded channels.

Nothing here depends on health data. There are three rules:

1. A message moves one stage forward, or its reply is resolved. No reply is left waiting.
2. Every channel is bounded. A full one makes its sender wait, back to the client's socket.
3. Closing the first address ends the pipeline: each stage drains, then closes the next one.

`stages.py` holds the actors, `channels.py` the queues between them, `replies.py` the outcomes of
messages, `supervision.py` the restarts after crashes, `concurrency.py` bounded iteration,
`quota.py` the limit on bytes in memory, `pacer.py` the limit on starts per second.
"""

from anyio import Lock

from atlas.runtime.channels import Channel
from atlas.runtime.concurrency import for_each_concurrently, run_in_background
from atlas.runtime.pacer import Pacer
from atlas.runtime.quota import Quota, Reservation
from atlas.runtime.replies import Acknowledgement, Completion, CompletionRegistry, Reply, Wakeup
from atlas.runtime.stages import (
    Address,
    DeadLetterRoute,
    Envelope,
    QueueLoad,
    Stage,
    StageObserver,
    Stages,
)
from atlas.runtime.supervision import OnCrash, RestartBudget, answer_crashes, supervise

__all__ = [
    "Acknowledgement",
    "Address",
    "Channel",
    "Completion",
    "CompletionRegistry",
    "DeadLetterRoute",
    "Envelope",
    "Lock",
    "OnCrash",
    "Pacer",
    "QueueLoad",
    "Quota",
    "Reply",
    "Reservation",
    "RestartBudget",
    "Stage",
    "StageObserver",
    "Stages",
    "Wakeup",
    "answer_crashes",
    "for_each_concurrently",
    "run_in_background",
    "supervise",
]
