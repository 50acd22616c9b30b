"""The trials: rows of the tables of what Atlas promises, one function a row.

`death.py` ends the service, `outage.py` takes Foundry away, `branch.py` has others write to it,
`undocumented.py` has Foundry behave in every way that nobody has documented, `poison.py` crashes
stages, `restored.py` puts an older copy of the journal back, `senders.py` has phones do what phones
do, `disk.py` spoils the journal, `machine.py` the computer; `load.py` sends too much, `hostile.py`
too slowly or in two meanings, `bombs.py` what becomes much.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.scenarios import (
    bombs,
    branch,
    disk,
    hostile,
    kills,
    load,
    machine,
    outage,
    poison,
    restored,
    senders,
    undocumented,
)
from tests.chaos.trial_environment import TrialEnvironment

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`settings` differ from those of the other trials; in `seconds_max` it has come to an end.

    `draws_modes`: the stand-in of Foundry behaves as the seed says, where nobody has documented
    what Foundry does.
    """

    name: str
    run: Callable[[TrialEnvironment], Awaitable[None]]
    settings: Settings = field(default_factory=dict)
    seconds_max: float = 1_800.0  # twice what the longest takes at full size
    draws_modes: bool = False


def build_recovery(
    name: str, run: Callable[[TrialEnvironment], Awaitable[None]], settings: Settings | None = None
) -> Scenario:
    """A trial of recovery: at a Foundry whose undocumented behaviour is drawn."""
    return Scenario(name, run, settings or {}, draws_modes=True)


SHARED_FILES: Settings = {"foundry": {"file_layout": "per-group"}}
PER_EXPORT: Settings = {"foundry": {"file_layout": "per-export"}}
PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-export"}}
SHARED_PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-group"}}
LONG_REPLY_WAIT: Settings = {"edge": {"commit_wait_seconds": 25.0}}  # as it is for phones
LONG_REPLY_WAIT_SHARED: Settings = {**LONG_REPLY_WAIT, **SHARED_FILES}
SCENARIOS = (
    build_recovery("kill -9", kills.kill_at_random),
    build_recovery("kill points", kills.kill_at_points),
    build_recovery("kill points, shared files", kills.kill_at_points_of_shared_files, SHARED_FILES),
    build_recovery("kill points of recovery", kills.kill_in_recovery),
    build_recovery("SIGTERM", kills.send_sigterm),
    build_recovery("unknown outcome", outage.lose_answers),
    build_recovery("unknown outcome, shared files", outage.lose_answers, SHARED_FILES),
    build_recovery("Foundry down", outage.cut_connections),
    build_recovery("Foundry 503, 429", outage.throttle_calls),
    build_recovery("Foundry hangs", outage.garble_responses, {"foundry": {"call_seconds": 1.0}}),
    build_recovery(
        "foreign transaction", branch.open_foreign_transactions, {"foundry": {"sole_writer": False}}
    ),
    build_recovery("foreign commit", branch.commit_by_another),
    build_recovery("path exists", branch.occupy_paths),
    build_recovery("role revoked", outage.revoke_role),
    Scenario("what Foundry leaves open", undocumented.try_every_mode),
    Scenario("what Foundry leaves open, shared files", undocumented.try_every_mode, SHARED_FILES),
    build_recovery("many poison exports", poison.refuse_many, LONG_REPLY_WAIT),
    build_recovery(
        "many poison exports, at the commit", poison.refuse_many_at_commit, LONG_REPLY_WAIT
    ),
    build_recovery(
        "many poison exports, shared files", poison.refuse_many_shared, LONG_REPLY_WAIT_SHARED
    ),
    build_recovery("many unanswered exports", poison.leave_many_unanswered, LONG_REPLY_WAIT),
    build_recovery("restored snapshot", restored.restore_at_points, PER_EXPORT),
    build_recovery("restored snapshot, shared files", restored.restore_at_points, SHARED_FILES),
    build_recovery("restored snapshot, Parquet", restored.restore_parquet_at_points, PARQUET),
    build_recovery(
        "restored snapshot, shared Parquet", restored.restore_parquet_at_points, SHARED_PARQUET
    ),
    build_recovery("poison", poison.send_one_in_a_thousand),
    Scenario("crashes", poison.crash_everywhere),
    build_recovery("twins", senders.send_twins),
    build_recovery("clock", machine.jump_clock, PER_EXPORT),
    build_recovery("backlog", machine.build_backlog),
    Scenario("disk full", disk.fill_disk, {"journal": {"free_bytes_min": disk.FREE_BYTES}}),
    Scenario("flipped bits", disk.flip_bits),
    Scenario("wrong key", disk.change_keys),
    Scenario("overload", load.send_overload, LONG_REPLY_WAIT),
    Scenario("memory", load.exhaust_memory, LONG_REPLY_WAIT),
    Scenario(
        "fairness", load.flood_by_one_user, {"edge": {"rate_per_minute": load.RATE_PER_MINUTE}}
    ),
    Scenario("slow clients", hostile.send_slowly),
    Scenario("smuggling", hostile.smuggle),
    Scenario("bombs", bombs.send_bombs),
    Scenario("JSON bombs", bombs.send_json_bombs),
)
