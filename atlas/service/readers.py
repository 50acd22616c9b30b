"""Who reads what happens: the metrics, the picture, the log."""

from dataclasses import dataclass

from atlas import __version__
from atlas.core.events import Event, Watch
from atlas.core.ports import Clock
from atlas.edge.operator import About, Picture
from atlas.outside.metrics import Metrics
from atlas.settings import Settings


@dataclass(frozen=True, slots=True)
class Readers:
    """Each is told of everything; the log comes last, as it takes longest."""

    metrics: Metrics
    picture: Picture
    log: Watch

    def watch(self, event: Event) -> None:
        self.metrics.watch(event)
        self.picture.watch(event)
        self.log(event)


def reading(settings: Settings, log: Watch, now: Clock) -> Readers:
    """All of them, from now on."""
    foundry, journal = settings.foundry, settings.journal
    about = About(
        version=__version__,
        dataset=foundry.dataset_rid,
        branch=foundry.branch,
        bytes_max=journal.bytes_max,
        exports_max=journal.exports_max,
    )
    return Readers(Metrics(__version__, now), Picture(about, now), log)
