"""Rates of the stages, from statuses that were read one after the other."""

from collections.abc import Mapping
from datetime import datetime

from atlas.core.picture import Picture

RATE_SECONDS = 5.0


def handled(picture: Picture) -> Mapping[str, int]:
    """The number of requests, messages and calls so far, by the name of the stage or end."""
    ends = {"edge": picture.counts.requests, "Foundry": picture.counts.foundry_calls}
    return {stage.name: stage.handled for stage in picture.stages} | ends


class Rates:
    """Numbers per second, over the last five; of the first status, since the service started."""

    def __init__(self, first: Picture) -> None:
        self._samples: list[tuple[datetime, Mapping[str, int]]] = []
        self._started = ""
        self.add(first)

    def add(self, picture: Picture) -> None:
        at = datetime.fromisoformat(picture.at)
        if picture.started != self._started:
            self._started = picture.started
            start = datetime.fromisoformat(picture.started), dict.fromkeys(handled(picture), 0)
            self._samples = [start]
        self._samples.append((at, handled(picture)))
        while len(self._samples) > 2 and (at - self._samples[0][0]).total_seconds() > RATE_SECONDS:
            del self._samples[0]

    def of(self, name: str) -> float:
        (began, before), (ended, now) = self._samples[0], self._samples[-1]
        seconds = (ended - began).total_seconds()
        return max(0, now[name] - before[name]) / seconds if seconds > 0 else 0.0
