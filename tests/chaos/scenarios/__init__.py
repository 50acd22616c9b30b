"""The trials: one function for each row in the table of promises.

`kills.py` ends the service, `outage.py` makes Foundry unavailable, `branch.py` lets others write to
the branch, `undocumented.py` tries all undocumented behaviour of Foundry, `poison.py` crashes
stages, `restored.py` restores an older copy of the journal, `senders.py` sends duplicates and
reused keys, `disk.py` damages the journal, `machine.py` changes the clock and fills the memory;
`load.py` sends too much, `hostile.py` too slowly or ambiguously, `bombs.py` small bodies that
become large. `streams.py` publishes to a stream, too. `replica_kills.py` kills and freezes one of
several replicas, `replica_clients.py` sends to all of them, `replica_tasks.py` replaces them, and
asks those that do not lead.
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
    replica_clients,
    replica_kills,
    replica_tasks,
    restored,
    senders,
    streams,
    undocumented,
)
from tests.chaos.trial_environment import TrialEnvironment
from tests.support.emulated_stream import STREAM as STREAM_RID

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One trial. `settings` are its differences from the common settings, `seconds_max` is its
    limit.

    With `draws_modes`, the seed decides the undocumented behaviour of the Foundry emulator. With
    `replicas`, as many services share a journal in PostgreSQL; `needs_sqlite` excludes that.
    """

    name: str
    run: Callable[[TrialEnvironment], Awaitable[None]]
    settings: Settings = field(default_factory=dict)
    seconds_max: float = 1_800.0  # twice the duration of the longest trial at full size
    draws_modes: bool = False
    replicas: int = 0
    needs_sqlite: bool = False


def build_recovery(
    name: str, run: Callable[[TrialEnvironment], Awaitable[None]], settings: Settings | None = None
) -> Scenario:
    """Build a trial of recovery, with Foundry's undocumented behaviour drawn from the seed."""
    return Scenario(name, run, settings or {}, draws_modes=True)


def build_restoration(
    name: str, run: Callable[[TrialEnvironment], Awaitable[None]], settings: Settings
) -> Scenario:
    """Build a trial that copies the journal's file."""
    return Scenario(name, run, settings, draws_modes=True, needs_sqlite=True)


def build_replica_trial(
    name: str, run: Callable[[TrialEnvironment], Awaitable[None]], settings: Settings | None = None
) -> Scenario:
    """Build a trial of two replicas over one journal in PostgreSQL."""
    return Scenario(name, run, settings or {}, replicas=2)


SHARED_FILES: Settings = {"foundry": {"file_layout": "per-group"}}
PER_EXPORT: Settings = {"foundry": {"file_layout": "per-export"}}
PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-export"}}
SHARED_PARQUET: Settings = {"foundry": {"file_format": "parquet", "file_layout": "per-group"}}
STREAM: Settings = {"stream": {"rid": STREAM_RID}}
SMALL_STREAM: Settings = {"stream": {"rid": STREAM_RID, "backlog_bytes_max": streams.BACKLOG_BYTES}}
DISK_LIMIT: Settings = {"journal": {"free_bytes_min": disk.FREE_BYTES}}
LONG_REPLY_WAIT: Settings = {"edge": {"commit_wait_seconds": 25.0}}  # the default
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
    build_restoration("restored snapshot", restored.restore_at_points, PER_EXPORT),
    build_restoration("restored snapshot, shared files", restored.restore_at_points, SHARED_FILES),
    build_restoration("restored snapshot, Parquet", restored.restore_parquet_at_points, PARQUET),
    build_restoration(
        "restored snapshot, shared Parquet", restored.restore_parquet_at_points, SHARED_PARQUET
    ),
    build_recovery("poison", poison.send_one_in_a_thousand),
    Scenario("crashes", poison.crash_everywhere),
    build_recovery("twins", senders.send_twins),
    build_recovery("clock", machine.jump_clock, PER_EXPORT),
    build_recovery("backlog", machine.build_backlog),
    Scenario("stream: killed while it publishes", streams.kill_while_publishing, STREAM),
    Scenario("stream: away", streams.take_stream_away, SMALL_STREAM),
    Scenario("disk full", disk.fill_disk, DISK_LIMIT, needs_sqlite=True),
    Scenario("flipped bits", disk.flip_bits, needs_sqlite=True),
    Scenario("wrong key", disk.change_keys, needs_sqlite=True),
    Scenario("overload", load.send_overload, LONG_REPLY_WAIT),
    Scenario("memory", load.exhaust_memory, LONG_REPLY_WAIT),
    Scenario(
        "fairness", load.flood_by_one_user, {"edge": {"rate_per_minute": load.RATE_PER_MINUTE}}
    ),
    Scenario("slow clients", hostile.send_slowly),
    Scenario("smuggling", hostile.smuggle),
    Scenario("bombs", bombs.send_bombs),
    Scenario("JSON bombs", bombs.send_json_bombs),
    build_replica_trial("replicas: leader killed", replica_kills.kill_leader_at_random),
    build_replica_trial("replicas: leader killed at points", replica_kills.kill_leader_at_points),
    build_replica_trial("replicas: follower killed", replica_kills.kill_follower),
    build_replica_trial("replicas: leader frozen", replica_kills.freeze_leader_at_points),
    build_replica_trial(
        "replicas: recovering leader frozen", replica_kills.freeze_recovering_leader
    ),
    build_replica_trial(
        "replicas: leader frozen in a transaction", replica_kills.freeze_leader_in_transaction
    ),
    build_replica_trial("replicas: late begin", replica_kills.begin_late),
    build_replica_trial("replicas: rolling deploy", replica_tasks.roll),
    build_replica_trial("replicas: twins", replica_clients.send_twins),
    build_replica_trial(
        "replicas: one millisecond", replica_clients.send_in_one_millisecond, PER_EXPORT
    ),
    build_replica_trial("replicas: poison", replica_clients.poison_each),
    build_replica_trial("replicas: erasure", replica_tasks.erase_at_follower, LONG_REPLY_WAIT),
    build_replica_trial("replicas: tasks of a follower", replica_tasks.ask_follower),
    build_replica_trial(
        "replicas: flood",
        replica_clients.flood_all,
        {"edge": {"rate_per_minute": load.RATE_PER_MINUTE}},
    ),
)
