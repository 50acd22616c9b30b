"""A step of the commit protocol: the next state, and the effect to perform."""

from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from atlas.actors.upload.effects import Effect, Rest
from atlas.actors.upload.pacing import FAILURES_MAX, pause_seconds
from atlas.actors.upload.states import Moment, Phase, State, Work
from atlas.core.errors import Unavailable
from atlas.core.events import Event, UploadPaused

T = TypeVar("T")


class Step(NamedTuple):
    """The next state and effect. `events` are emitted before the effect is performed."""

    state: State
    effect: Effect
    events: tuple[Event, ...] = ()


def enter(phase: Phase, state: State, effect: Effect, *events: Event) -> Step:
    return Step(replace(state, phase=phase), effect, events)


def pause(state: State, error: Unavailable, moment: Moment, *, is_outage: bool = True) -> Step:
    """Rest after an error. Afterwards, the work in hand is read from the journal and resolved."""
    failures = state.memory.failures
    seconds = pause_seconds(error, failures, moment.jitter)
    memory = replace(state.memory, failures=min(failures + 1, FAILURES_MAX), snapshot=None)
    paused = UploadPaused(str(error), seconds, is_outage)
    return enter("paused", State("paused", Work(), memory), Rest(seconds), paused)


def require(value: T | None) -> T:
    """Return a value that every path to this state sets. Raises ValueError if it is None."""
    if value is None:
        raise ValueError("Bug in the commit protocol: this state requires a value that is None.")
    return value
