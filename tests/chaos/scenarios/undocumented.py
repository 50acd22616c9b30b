"""Atlas against every behaviour of Foundry that is undocumented, one mode at a time."""

import time

from atlas.local.foundry.behaviour import Behaviour, Value
from atlas.local.foundry.faults import Fault
from tests.chaos.trial_environment import TrialEnvironment

LOST_SHARE = 0.2  # of the answers to create, upload and commit
CLIENTS = 16
FULL_EXPORTS = 600


async def try_every_mode(bench: TrialEnvironment) -> None:
    """Try each value of each mode with every fifth answer lost, and check the balance after each.

    `redirect` is left out, because every call fails in that mode.
    """
    exports = bench.scale.scale_number(FULL_EXPORTS, least=6)
    took: dict[str, float] = {}
    await bench.atlas.start()
    lose_answers(bench)
    for name, value in list_modes():
        took[f"{name}={value}"] = await try_mode(bench, name, value, exports)
    slowest = max(took, key=lambda mode: took[mode])
    lost = sum(call.status in {0, 504} for call in bench.emulators.calls)
    bench.findings.check(lost > 0, "No answer was lost.")
    bench.findings.add_fact(
        f"{len(took)} modes, {exports} exports each, {lost} answers lost; "
        f"drained in {took[slowest]:.1f} s at most ({slowest})"
    )


def list_modes() -> list[tuple[str, Value]]:
    """Return every mode with each of its values; all defaults together only once."""
    defaults = {name: values[0] for name, values in Behaviour.list_values().items()}
    pairs = [pair for pair in Behaviour.list_pairs() if pair[0] != "redirect"]
    return [pairs[0], *((name, value) for name, value in pairs if value != defaults[name])]


async def try_mode(bench: TrialEnvironment, name: str, value: Value, exports: int) -> float:
    """Send until everything is acknowledged and committed; return the seconds that it took."""
    foundry, began = bench.emulators.foundry, time.monotonic()
    foundry.behaviour = Behaviour().change({name: value})
    foundry.revoke_tokens()  # so that the next token answer uses this mode
    async with bench.clients.keep_sending(exports, phones=CLIENTS):
        pass
    await bench.wait_until_drained()
    took = time.monotonic() - began
    if left := bench.emulators.list_open():
        bench.findings.failures.append(
            f"{name}={value}: {len(left)} transactions of ours left open"
        )
    for wrong in (await bench.draw_balance()).list_failures():
        bench.findings.failures.append(f"{name}={value}: {wrong}")
    return took


def lose_answers(bench: TrialEnvironment) -> None:
    """Let create, upload and commit happen, but lose every fifth answer."""
    for call in ("create", "upload", "commit"):
        for how in ("cut", "504"):
            seed = bench.rng.randrange(2**32)
            rate = LOST_SHARE / 2
            bench.emulators.set_faults(
                Fault(call=call, kind="lost", how=how, rate=rate, count=0, seed=seed)
            )
