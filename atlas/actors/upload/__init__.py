"""Commits exports to the dataset, many in one transaction, each exactly once.

A pure state machine, the commit protocol, makes the decisions. README.md explains it.

    policy.py              settings: group sizes, pacing, number of tries
    states.py              the states of the protocol
    effects.py             the effects that it requests, and their results
    reports.py             the results of effects that handle many files
    protocol.py            the table of transitions
      recovery.py            resolves work that was begun and not concluded
      grouping.py            brings a group into a transaction
      ending.py              ends a transaction
    pacing.py              chooses the time and lane of the next group
    verdicts.py            decides the outcome of each export
    uploader.py            the driver: performs the effects
      transactions.py        begins and ends transactions, while this replica leads
      foreign_writers.py     detects other writers on the branch
      files.py               builds files from exports
      group_upload.py        uploads the files of a group concurrently
      conflicts.py           resolves conflicts over paths
      restore_reconciler.py  finds out whether the journal is an older copy
      publisher.py           publishes receipts and events
    maintenance.py         performs operators' tasks on the branch, between two groups
    personal_data.py       finds and erases the data of one person
      shared_files.py        removes a person's rows from shared files
"""

from atlas.actors.upload.files import NDJSON, FilePolicy, Format
from atlas.actors.upload.maintenance import BranchMaintenance
from atlas.actors.upload.personal_data import PersonalData
from atlas.actors.upload.policy import UploadPolicy
from atlas.actors.upload.publisher import Publisher
from atlas.actors.upload.shared_files import SharedFiles
from atlas.actors.upload.uploader import Timing, Uploader

__all__ = [
    "NDJSON",
    "BranchMaintenance",
    "FilePolicy",
    "Format",
    "PersonalData",
    "Publisher",
    "SharedFiles",
    "Timing",
    "UploadPolicy",
    "Uploader",
]
