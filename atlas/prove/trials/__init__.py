"""The trials: rows of the tables of what Atlas promises, one function a row.

`death.py` ends the service, `outage.py` takes Foundry away, `branch.py` has others write to it,
`poison.py` crashes its stages, `senders.py` has phones do what phones do, `disk.py` spoils the
journal, `machine.py` the computer; `load.py` sends too much, `hostile.py` too slowly or in two
meanings, `bombs.py` what becomes much.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from atlas.prove.bench import Bench
from atlas.prove.trials import (
    bombs,
    branch,
    death,
    disk,
    hostile,
    load,
    machine,
    outage,
    poison,
    senders,
)

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Trial:
    """`settings` differ from those of the other trials; in `seconds_max` it has come to an end."""

    name: str
    run: Callable[[Bench], Awaitable[None]]
    settings: Settings = field(default_factory=dict)
    seconds_max: float = 1_800.0  # twice what the longest takes at full size


SHARED_FILES: Settings = {"foundry": {"file_layout": "per-group"}}
PATIENT: Settings = {"edge": {"reply_seconds": 25.0}}  # as it is for phones
TRIALS = (
    Trial("kill -9", death.kill_at_random),
    Trial("kill points", death.kill_at_points),
    Trial("kill points, shared files", death.kill_at_points_of_groups, SHARED_FILES),
    Trial("SIGTERM", death.told_to_end),
    Trial("unknown outcome", outage.answers_lost),
    Trial("unknown outcome, shared files", outage.answers_lost, SHARED_FILES),
    Trial("Foundry down", outage.away),
    Trial("Foundry 503, 429", outage.in_a_hurry),
    Trial("Foundry hangs", outage.out_of_its_mind, {"foundry": {"call_seconds": 1.0}}),
    Trial("foreign transaction", branch.foreign_transactions, {"foundry": {"sole_writer": False}}),
    Trial("foreign commit", branch.foreign_commits),
    Trial("path exists", branch.paths_exist),
    Trial("role revoked", outage.role_revoked),
    Trial("poison", poison.one_in_a_thousand),
    Trial("crashes", poison.crashes_everywhere),
    Trial("twins", senders.twins),
    Trial("clock", machine.clock_jumps),
    Trial("backlog", machine.backlog),
    Trial("disk full", disk.disk_full, {"journal": {"free_bytes_min": disk.FREE_BYTES}}),
    Trial("flipped bits", disk.bits_flipped),
    Trial("wrong key", disk.other_keys),
    Trial("overload", load.overload, PATIENT),
    Trial("memory", load.memory, PATIENT),
    Trial("fairness", load.fairness, {"edge": {"rate_per_minute": load.RATE_PER_MINUTE}}),
    Trial("slow clients", hostile.slow_clients),
    Trial("smuggling", hostile.smuggling),
    Trial("bombs", bombs.inflated),
    Trial("JSON bombs", bombs.json_bombs),
)
