"""What becomes of pictures that are told one after the other."""

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from atlas.core.picture import COMMITS_KEPT, MOMENTS_KEPT, Picture

RATE_SECONDS = 5.0

Samples = list[tuple[datetime, Mapping[str, int]]]


def handled(picture: Picture) -> Mapping[str, int]:
    """By everyone who stands in the flow."""
    ends = {"edge": picture.counts.requests, "Foundry": picture.counts.foundry_calls}
    return {stage.name: stage.handled for stage in picture.stages} | ends


def grown(before: Picture, picture: Picture) -> Picture:
    """With what was told before of that which is told only once."""
    return replace(
        picture,
        commits=(*before.commits, *picture.commits)[-COMMITS_KEPT:],
        history=(*before.history, *picture.history)[-MOMENTS_KEPT:],
    )


class Rates:
    """How many a second, over the last five; of a first picture, since the start."""

    def __init__(self, first: Picture) -> None:
        started = datetime.fromisoformat(first.started)
        self._samples: Samples = [(started, dict.fromkeys(handled(first), 0))]
        self.add(first)

    def add(self, picture: Picture) -> None:
        at = datetime.fromisoformat(picture.at)
        self._samples.append((at, handled(picture)))
        while len(self._samples) > 2 and (at - self._samples[0][0]).total_seconds() > RATE_SECONDS:
            del self._samples[0]

    def of(self, name: str) -> float:
        (began, before), (ended, now) = self._samples[0], self._samples[-1]
        seconds = (ended - began).total_seconds()
        return max(0, now[name] - before[name]) / seconds if seconds > 0 else 0.0
