"""Apple's Health export, as the lines that the app would send.

The listing, in the order of the data: `archive` finds the XML, `markup` reads its elements,
`records` and `workouts` make samples of them (with `traits`, `dates`, `devices`, `identity` and
Apple's `vocabulary`), `ecgs` and `routes` make samples of the files beside it, `conversion` is all
of it together, `census` counts, `place` remembers how far a sending came.
"""

from atlas.apple.archive import opened
from atlas.apple.census import Kind, census
from atlas.apple.conversion import Conversion
from atlas.apple.errors import Unreadable
from atlas.apple.place import Lines, Mark, Place
from atlas.apple.samples import Sample, line

__all__ = [
    "Conversion",
    "Kind",
    "Lines",
    "Mark",
    "Place",
    "Sample",
    "Unreadable",
    "census",
    "line",
    "opened",
]
