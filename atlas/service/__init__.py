"""Assembles a running service, or the parts of one that a single command needs.

store.py         the journal
dependencies.py  external systems, clock, randomness, CPU workers
subscribers.py   event subscribers: traces, status, log
process_log.py   lines of the log that are not events
flow.py          the actors, from the edge to the uploader
start_report.py  the event of a start
uploads.py       the uploader, and the operations that share its branch
streams.py       the publisher of the stream beside the dataset
listeners.py     the public application and the operator application
diagnosis.py     `atlas diagnose` inside a running service
shutdown.py      the shutdown sequence
backup.py        copies the journal into a file, and reads its statistics
preflight.py     checks settings as a start does, without the journal and the network
transfer.py      checks the whole journal, and moves it to another database
upkeep.py        copies of the journal's key, and the version of its tables
phone_monitor.py counts the phones every minute
row_reader.py    reads the rows of the dataset
dataset_schema.py the schema of the dataset: compared with ours, and put
view_creation.py  a View over the dataset
offline.py       operations for a command while no service is running
cgroup.py        CPU and memory limits of the container
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas.service.backup import (
        BackupResult,
        JournalStatistics,
        back_up_journal,
        read_statistics,
    )
    from atlas.service.dataset_schema import compare_schema, put_schema
    from atlas.service.dependencies import Dependencies, open_dependencies
    from atlas.service.diagnosis import list_legacy_files
    from atlas.service.flow import Service, run_service
    from atlas.service.offline import (
        diagnose_offline,
        find_lock_owner,
        open_personal_data,
        remove_files,
    )
    from atlas.service.preflight import find_start_problems
    from atlas.service.process_log import JsonProcessLog, capture_library_messages, is_json_log
    from atlas.service.row_reader import RowReader, may_have_samples, open_row_reader
    from atlas.service.store import open_journal, open_unlocked
    from atlas.service.streams import build_stream_request, create_stream
    from atlas.service.subscribers import EventSubscribers, build_subscribers
    from atlas.service.transfer import (
        JournalCheck,
        MoveResult,
        check_journal,
        move_journal,
        plan_move,
    )
    from atlas.service.upkeep import (
        KeyCopy,
        TableVersion,
        abandon_unreadable,
        drop_key_copies,
        list_key_copies,
        migrate_journal,
    )
    from atlas.service.view_creation import (
        ViewPlan,
        build_view_request,
        create_view,
        plan_view,
    )

__all__ = [
    "BackupResult",
    "Dependencies",
    "EventSubscribers",
    "JournalCheck",
    "JournalStatistics",
    "JsonProcessLog",
    "KeyCopy",
    "MoveResult",
    "RowReader",
    "Service",
    "TableVersion",
    "ViewPlan",
    "abandon_unreadable",
    "back_up_journal",
    "build_stream_request",
    "build_subscribers",
    "build_view_request",
    "capture_library_messages",
    "check_journal",
    "compare_schema",
    "create_stream",
    "create_view",
    "diagnose_offline",
    "drop_key_copies",
    "find_lock_owner",
    "find_start_problems",
    "is_json_log",
    "list_key_copies",
    "list_legacy_files",
    "may_have_samples",
    "migrate_journal",
    "move_journal",
    "open_dependencies",
    "open_journal",
    "open_personal_data",
    "open_row_reader",
    "open_unlocked",
    "plan_move",
    "plan_view",
    "put_schema",
    "read_statistics",
    "remove_files",
    "run_service",
]

# Each name's module is imported when it is first used: a command that only reads the journal would
# otherwise wait for the HTTP servers and Foundry's client, which takes longer than its work.
PARTS = {
    "backup": ("BackupResult", "JournalStatistics", "back_up_journal", "read_statistics"),
    "dataset_schema": ("compare_schema", "put_schema"),
    "dependencies": ("Dependencies", "open_dependencies"),
    "diagnosis": ("list_legacy_files",),
    "flow": ("Service", "run_service"),
    "offline": ("diagnose_offline", "find_lock_owner", "open_personal_data", "remove_files"),
    "preflight": ("find_start_problems",),
    "process_log": ("JsonProcessLog", "capture_library_messages", "is_json_log"),
    "row_reader": ("RowReader", "may_have_samples", "open_row_reader"),
    "store": ("open_journal", "open_unlocked"),
    "streams": ("build_stream_request", "create_stream"),
    "subscribers": ("EventSubscribers", "build_subscribers"),
    "transfer": ("JournalCheck", "MoveResult", "check_journal", "move_journal", "plan_move"),
    "upkeep": (
        "KeyCopy",
        "TableVersion",
        "abandon_unreadable",
        "drop_key_copies",
        "list_key_copies",
        "migrate_journal",
    ),
    "view_creation": ("ViewPlan", "build_view_request", "create_view", "plan_view"),
}
MODULES = {name: module for module, names in PARTS.items() for name in names}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Import a name of this package."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
