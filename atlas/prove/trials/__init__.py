"""The trials: rows of the table "Delivery" of what Atlas promises, one function a row.

`death.py` ends the service, `outage.py` takes Foundry away, `branch.py` has others write to it,
`senders.py` has phones do what phones do, `machine.py` breaks the computer.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from atlas.prove.bench import Bench
from atlas.prove.trials import death

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Trial:
    """`settings` differ from those of the other trials."""

    name: str
    run: Callable[[Bench], Awaitable[None]]
    settings: Settings = field(default_factory=dict)


TRIALS = (
    Trial("kill -9", death.kill_at_random),
    Trial("kill points", death.kill_at_points),
    Trial("SIGTERM", death.told_to_end),
)
