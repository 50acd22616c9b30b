"""Brings exports into the dataset: many in one transaction, each exactly once.

The decisions are a pure state machine, the commit protocol: README.md shows its table.

    policy.py              settings: how much, how often, how hard
    states.py              the states of the protocol
    effects.py             the effects that it asks for, and their results
    reports.py             the results of effects that handle many files
    protocol.py            the table of transitions
      recovery.py            what became of what was begun
      grouping.py            a group comes into a transaction
      ending.py              a transaction ends
    pacing.py              when the next group goes, and which
    verdicts.py            how it ended for each export
    uploader.py            performs the effects
      files.py               what goes into which file
      group_upload.py        the files of a group, side by side
      conflicts.py           who holds our paths
      restore_reconciler.py  an older copy of the journal beside the dataset
      publisher.py           tells whoever waits
    maintenance.py         what operators have done between two groups
    personal_data.py       what is there of a person, and how it is erased
      shared_files.py        their rows among those of others
"""

from atlas.actors.upload.files import NDJSON, FilePolicy, Format
from atlas.actors.upload.maintenance import BranchMaintenance
from atlas.actors.upload.personal_data import PersonalData
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.shared_files import SharedFiles
from atlas.actors.upload.uploader import Chance, Uploader

__all__ = [
    "NDJSON",
    "BranchMaintenance",
    "Chance",
    "FilePolicy",
    "Format",
    "PersonalData",
    "SharedFiles",
    "UploadPolicy",
    "Uploader",
]
