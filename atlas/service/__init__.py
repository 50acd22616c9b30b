"""Puts the rooms together. The only room that knows them all.

store.py      the journal, for a service or for one command
world.py      the systems that the settings name, time, chance, processors
readers.py    the subscribers to events: traces, status, log
flow.py       the actors between them, from the edge to the uploader
listeners.py  what is served where
diagnosing.py the walk through all of it
drain.py      how it ends
alone.py      where no service runs: for one command
"""

from atlas.service.dependencies import Dependencies, open_dependencies
from atlas.service.diagnosis import fix_schema, list_legacy_files
from atlas.service.flow import Service, run_service
from atlas.service.offline import (
    diagnose_offline,
    find_lock_owner,
    open_personal_data,
    remove_files,
)
from atlas.service.store import (
    JournalPorts,
    abandon_unreadable,
    collect_ports,
    open_journal,
    open_unlocked,
)
from atlas.service.subscribers import EventSubscribers, build_subscribers

__all__ = [
    "Dependencies",
    "EventSubscribers",
    "JournalPorts",
    "Service",
    "abandon_unreadable",
    "build_subscribers",
    "collect_ports",
    "diagnose_offline",
    "find_lock_owner",
    "fix_schema",
    "list_legacy_files",
    "open_dependencies",
    "open_journal",
    "open_personal_data",
    "open_unlocked",
    "remove_files",
    "run_service",
]
