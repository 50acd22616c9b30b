"""Converts Apple's Health export into the lines that the app would send.

The modules, in the order of the data: `archive` finds the XML, and `xml_reader` reads its elements.
`records` and `workouts` convert them to `samples`, with `common_fields`, `dates`, `devices`,
`identity` and Apple's `vocabulary`. `ecgs` and `routes` convert the files next to the XML.
`conversion` combines all of these, `summary` counts, and `checkpoint` records the progress of an
import.
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
