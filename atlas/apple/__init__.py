"""Converts Apple's Health export into the lines that the app would send.

The modules, in the order of the data: `archive` finds the XML, with `zip_members`, and `xml_reader`
reads its elements. `records` and `workouts` convert them to `samples`, with `common_fields`,
`devices`, `identity` and Apple's `vocabulary`; `dates`, `local_dates` and `numerals` read text in
the phone's language. `ecgs` and `routes` convert the files next to the XML. `conversion` combines
all of these, in a `context`; `summary` counts, and `checkpoint` records the progress of an import.
"""

from atlas.apple.archive import open_export
from atlas.apple.checkpoint import Checkpoint, CheckpointFile, CountedLines, IdentityChoice
from atlas.apple.conversion import Conversion
from atlas.apple.errors import Unreadable
from atlas.apple.identity import IDENTITIES, IDENTITY_DEFAULT
from atlas.apple.samples import Sample, SampleDeletion, encode_line
from atlas.apple.summary import TypeSummary, summarize

__all__ = [
    "IDENTITIES",
    "IDENTITY_DEFAULT",
    "Checkpoint",
    "CheckpointFile",
    "Conversion",
    "CountedLines",
    "IdentityChoice",
    "Sample",
    "SampleDeletion",
    "TypeSummary",
    "Unreadable",
    "encode_line",
    "open_export",
    "summarize",
]
