"""Converts Apple's Health export into the lines that the app would send.

The listing, in the order of the data: `archive` finds the XML, `markup` reads its elements,
`records` and `workouts` make samples of them (with `traits`, `dates`, `devices`, `identity` and
Apple's `vocabulary`), `ecgs` and `routes` make samples of the files beside it, `conversion` is all
of it together, `summarize` counts, `place` remembers how far a sending came.
"""

from atlas.apple.archive import open_export
from atlas.apple.checkpoint import Checkpoint, CheckpointFile, CountedLines
from atlas.apple.conversion import Conversion
from atlas.apple.errors import Unreadable
from atlas.apple.samples import Sample, encode_line
from atlas.apple.summary import TypeSummary, summarize

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "Conversion",
    "CountedLines",
    "Sample",
    "TypeSummary",
    "Unreadable",
    "encode_line",
    "open_export",
    "summarize",
]
