"""The cost of an export, for one side, once: `python -m tests.bench.cost --help`.

The service runs from any checkout (`--repo`), with senders and a Foundry stub that are not the
bottleneck. Printed are the CPU time of the service and its workers, the rate, the latency and the
memory, and the cost of the senders and stubs themselves.
"""

import argparse
import json
from pathlib import Path

from tests.bench.senders import RECORDS, USERS, quantile
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
    total = cost.service + cost.workers
    per_record = 1e6 * total / max(1, outcome.safe_count * records)
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(outcome.statuses.items()))
    lines = [
        (
            f"{side.name}: {load.connections} connections x {records} records, "
            f"{outcome.seconds:.1f} s, {side.repo}"
        ),
        (
            f"exports/s {outcome.rate:.1f}   records/s {outcome.rate * records:,.0f}   "
            f"safe {outcome.safe_share:.1%}   [{statuses}]"
        ),
        (
            f"CPU per export: service {cost.milliseconds:.3f} ms, workers "
            f"{cost.per_export(cost.workers):.3f} ms; per record, both: {per_record:.1f} µs; "
            f"cores {total / outcome.seconds:.2f}"
        ),
        f"latency {format_quantiles(outcome.latencies)}   PSS max {max(cost.memory):.0f} MiB",
        f"refusals/s {outcome.refusal_rate:.1f}   {format_quantiles(outcome.refusal_latencies)}",
        (
            f"senders {1e6 * cost.senders / sent:.0f} µs a request, stubs "
            f"{1e3 * cost.per_export(cost.stubs):.0f} µs an export; {cost.committed}"
        ),
    ]
    return "\n  ".join(lines)


def format_quantiles(seconds: list[float]) -> str:
    return "   ".join(f"p{100 * q:.0f} {1e3 * quantile(seconds, q):.1f} ms" for q in (0.5, 0.99))


def build_side(options: argparse.Namespace) -> Side:
    """Build the side from the options. Foundry's rate limits are off unless `--limits` is given."""
    settings = {} if options.limits else dict(NO_LIMITS)
    if options.layout != "auto":
        settings["foundry.file_layout"] = json.dumps(options.layout)
    if options.interval != DEFAULTS:
        settings["foundry.commit_interval_seconds"] = str(float(options.interval))
    for text in options.set:
        name, _, value = text.partition("=")
        settings[name] = value if is_plain_toml(value) else json.dumps(value)
    name = (
        f"floor, {options.floor}" if options.floor else f"{options.layout} {options.prefer}".strip()
    )
    return Side(
        "plain service in Node" if options.node else name,
        options.repo.resolve(),
        options.floor or "",
        options.node,
        settings,
        options.prefer,
        options.journal,
    )


def is_plain_toml(value: str) -> bool:
    """True if the value is valid TOML as it is: a number, true, false, a list, a quoted string."""
    is_number = value.replace("_", "").replace(".", "", 1).removeprefix("-").isdigit()
    return is_number or value in {"true", "false"} or value.startswith(("[", '"', "'"))


def build_parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser("python -m tests.bench.cost", description=__doc__)
    add = options.add_argument
    add("--repo", type=Path, default=HERE, help="a checkout of Atlas (default: this one)")
    add("--floor", choices=FLOORS, help="the floor instead of a service")
    add("--node", action="store_true", help="the plain service in Node instead")
    add("--seconds", type=float, default=SECONDS)
    add("--warm-seconds", type=float, default=WARM_SECONDS)
    add("--connections", type=int, default=CONNECTIONS)
    add("--records", type=int, default=RECORDS)
    add("--users", type=int, default=USERS)
    add("--layout", choices=("auto", "per-export", "per-group"), default="auto")
    add("--prefer", default="", help="a Prefer header: respond-async")
    add("--interval", default="0", help="seconds between commits, or 'default'")
    add("--limits", action="store_true", help="keep the default rate limits of Foundry calls")
    add("--journal", type=Path, help="a journal to start with; it is copied")
    add("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    add("--disturb", action="store_true", help="occupy all cores for 2 s before the window")
    add("--rounds", type=int, default=1, help="number of rounds, each of which is printed")
    return options


def main() -> None:
    options = build_parser().parse_args()
    load = Load(
        options.connections,
        options.records,
        options.seconds,
        options.warm_seconds,
        options.disturb,
        options.users,
    )
    side = build_side(options)
    for _ in range(options.rounds):
        print(describe(side, load, measure_cost(side, load)), flush=True)


if __name__ == "__main__":
    main()
