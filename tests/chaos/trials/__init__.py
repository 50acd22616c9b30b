"""The trials: rows of the tables of what Atlas promises, one function a row.

`death.py` ends the service, `outage.py` takes Foundry away, `branch.py` has others write to it,
`undocumented.py` has Foundry behave in every way that nobody has documented, `poison.py` crashes
stages, `restored.py` puts an older copy of the journal back, `senders.py` has phones do what phones
do, `disk.py` spoils the journal, `machine.py` the computer; `load.py` sends too much, `hostile.py`
too slowly or in two meanings, `bombs.py` what becomes much.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.bench import Bench
from tests.chaos.trials import (
    bombs,
    branch,
    death,
    disk,
    hostile,
    load,
    machine,
    outage,
    poison,
    restored,
    senders,
    undocumented,
)

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Trial:
    """`settings` differ from those of the other trials; in `seconds_max` it has come to an end.

    `has_drawn_modes`: the stand-in of Foundry behaves as the seed says, where nobody has documented
    what Foundry does.
    """

    name: str
    run: Callable[[Bench], Awaitable[None]]
    settings: Settings = field(default_factory=dict)
    seconds_max: float = 1_800.0  # twice what the longest takes at full size
    has_drawn_modes: bool = False


def recovery(
    name: str, run: Callable[[Bench], Awaitable[None]], settings: Settings | None = None
) -> Trial:
    """A trial of recovery: at a Foundry whose undocumented behaviour is drawn."""
    return Trial(name, run, settings or {}, has_drawn_modes=True)


SHARED_FILES: Settings = {"foundry": {"file_layout": "per-group"}}
PER_EXPORT: Settings = {"foundry": {"file_layout": "per-export"}}
PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-export"}}
SHARED_PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-group"}}
PATIENT: Settings = {"edge": {"reply_seconds": 25.0}}  # as it is for phones
PATIENT_AND_SHARED: Settings = {**PATIENT, **SHARED_FILES}
TRIALS = (
    recovery("kill -9", death.kill_at_random),
    recovery("kill points", death.kill_at_points),
    recovery("kill points, shared files", death.kill_at_points_of_shared_files, SHARED_FILES),
    recovery("kill points of recovery", death.kill_in_recovery),
    recovery("SIGTERM", death.told_to_end),
    recovery("unknown outcome", outage.answers_lost),
    recovery("unknown outcome, shared files", outage.answers_lost, SHARED_FILES),
    recovery("Foundry down", outage.away),
    recovery("Foundry 503, 429", outage.in_a_hurry),
    recovery("Foundry hangs", outage.out_of_its_mind, {"foundry": {"call_seconds": 1.0}}),
    recovery(
        "foreign transaction", branch.foreign_transactions, {"foundry": {"sole_writer": False}}
    ),
    recovery("foreign commit", branch.foreign_commits),
    recovery("path exists", branch.paths_exist),
    recovery("role revoked", outage.role_revoked),
    Trial("what Foundry leaves open", undocumented.every_mode),
    Trial("what Foundry leaves open, shared files", undocumented.every_mode, SHARED_FILES),
    recovery("many poison exports", poison.many_refused, PATIENT),
    recovery("many poison exports, at the commit", poison.many_refused_at_commit, PATIENT),
    recovery("many poison exports, shared files", poison.many_refused_shared, PATIENT_AND_SHARED),
    recovery("many unanswered exports", poison.many_unanswered, PATIENT),
    recovery("restored snapshot", restored.put_back, PER_EXPORT),
    recovery("restored snapshot, shared files", restored.put_back, SHARED_FILES),
    recovery("restored snapshot, Parquet", restored.put_back_parquet, PARQUET),
    recovery("restored snapshot, shared Parquet", restored.put_back_parquet, SHARED_PARQUET),
    recovery("poison", poison.one_in_a_thousand),
    Trial("crashes", poison.crashes_everywhere),
    recovery("twins", senders.twins),
    recovery("clock", machine.clock_jumps, PER_EXPORT),
    recovery("backlog", machine.backlog),
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
