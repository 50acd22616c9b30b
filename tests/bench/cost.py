"""What an export costs: one side, once. `python -m tests.bench.cost --help`.

The service runs from any checkout (`--repo`), beside senders and a Foundry that are not the
bottleneck. Its figures are its processor time and that of its workers, the rate, the latency, and
its memory; the senders' and the stub's own cost is told beside them.
"""

import argparse
import json
from pathlib import Path

from tests.bench.senders import RECORDS, quantile
from tests.bench.sides import (
    CONNECTIONS,
    FLOORS,
    HERE,
    NO_LIMITS,
    SECONDS,
    WARM_SECONDS,
    Cost,
    Load,
    Side,
    measure_cost,
)

DEFAULTS = "default"


def describe(side: Side, load: Load, cost: Cost) -> str:
    outcome, records = cost.outcome, load.records
    sent = max(1, outcome.statuses.total())
    whole = cost.service + cost.workers
    per_record = 1e6 * whole / max(1, outcome.answered * records)
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(outcome.statuses.items()))
    lines = [
        (
            f"{side.name}: {load.connections} connections x {records} records, "
            f"{outcome.seconds:.1f} s, {side.repo}"
        ),
        (
            f"exports/s {outcome.rate:.1f}   records/s {outcome.rate * records:,.0f}   "
            f"safe {outcome.share:.1%}   [{statuses}]"
        ),
        (
            f"CPU per export: service {cost.milliseconds:.3f} ms, workers "
            f"{cost.per_export(cost.workers):.3f} ms; per record, both: {per_record:.1f} µs; "
            f"cores {whole / outcome.seconds:.2f}"
        ),
        f"latency {quantiles(outcome.took)}   PSS max {max(cost.memory):.0f} MiB",
        f"refusals/s {outcome.refusals:.1f}   {quantiles(outcome.refused)}",
        (
            f"senders {1e6 * cost.senders / sent:.0f} µs a request, far ends "
            f"{1e3 * cost.per_export(cost.far_ends):.0f} µs an export; {cost.committed}"
        ),
    ]
    return "\n  ".join(lines)


def quantiles(seconds: list[float]) -> str:
    return "   ".join(f"p{100 * q:.0f} {1e3 * quantile(seconds, q):.1f} ms" for q in (0.5, 0.99))


def side_of(asked: argparse.Namespace) -> Side:
    """Settings as they were asked for; Foundry's limits of calls are off unless they are wanted."""
    settings = {} if asked.limits else dict(NO_LIMITS)
    if asked.layout != "auto":
        settings["foundry.file_layout"] = json.dumps(asked.layout)
    if asked.interval != DEFAULTS:
        settings["foundry.commit_interval_seconds"] = str(float(asked.interval))
    for text in asked.set:
        name, _, value = text.partition("=")
        settings[name] = value if is_plain_toml(value) else json.dumps(value)
    name = f"floor, {asked.floor}" if asked.floor else f"{asked.layout} {asked.prefer}".strip()
    return Side(
        "plain service in Node" if asked.node else name,
        asked.repo.resolve(),
        asked.floor or "",
        asked.node,
        settings,
        asked.prefer,
        asked.journal,
    )


def is_plain_toml(value: str) -> bool:
    """Whether it stands in TOML as it is: a number, true, false, a list, a quoted text."""
    is_number = value.replace("_", "").replace(".", "", 1).removeprefix("-").isdigit()
    return is_number or value in {"true", "false"} or value.startswith(("[", '"', "'"))


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser("python -m tests.bench.cost", description=__doc__)
    add = asked.add_argument
    add("--repo", type=Path, default=HERE, help="a checkout of Atlas (default: this one)")
    add("--floor", choices=FLOORS, help="the floor instead of a service")
    add("--node", action="store_true", help="the plain service in Node instead")
    add("--seconds", type=float, default=SECONDS)
    add("--warm-seconds", type=float, default=WARM_SECONDS)
    add("--connections", type=int, default=CONNECTIONS)
    add("--records", type=int, default=RECORDS)
    add("--layout", choices=("auto", "per-export", "per-group"), default="auto")
    add("--prefer", default="", help="a Prefer header: respond-async")
    add("--interval", default="0", help="seconds between commits, or 'default'")
    add("--limits", action="store_true", help="keep the default limits of calls to Foundry")
    add("--journal", type=Path, help="a journal to begin with; it is copied")
    add("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    add("--disturb", action="store_true", help="others take all cores for 2 s before the window")
    add("--rounds", type=int, default=1, help="run it so often; each is told")
    return asked


def main() -> None:
    asked = parser().parse_args()
    load = Load(asked.connections, asked.records, asked.seconds, asked.warm_seconds, asked.disturb)
    side = side_of(asked)
    for _ in range(asked.rounds):
        print(describe(side, load, measure_cost(side, load)), flush=True)


if __name__ == "__main__":
    main()
