"""Assembles a running service, or the parts of one that a single command needs.

store.py         the journal
dependencies.py  external systems, clock, randomness, CPU workers
subscribers.py   event subscribers: traces, status, log
flow.py          the actors, from the edge to the uploader
uploads.py       the uploader, and the operations that share its branch
listeners.py     the public application and the operator application
diagnosis.py     `atlas diagnose` inside a running service
shutdown.py      the shutdown sequence
offline.py       operations for a command while no service is running
cgroup.py        CPU and memory limits of the container
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
