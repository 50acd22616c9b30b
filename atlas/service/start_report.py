"""The event of a start, and the number of exports that wait at the start and at the end."""

import platform
from contextlib import suppress

import anyio

from atlas import __version__
from atlas.core import ports
from atlas.core.errors import Unavailable
from atlas.core.events import ServiceStarted
from atlas.core.messages import GroupLimits
from atlas.service.dependencies import Dependencies
from atlas.settings import Settings, list_differences

QUESTION_SECONDS = 1.0  # for a question to the journal


async def describe_start(dependencies: Dependencies, settings: Settings) -> ServiceStarted:
    store, foundry, journal = dependencies.store, settings.foundry, settings.journal
    local_kind = "memory" if journal.path is None else "sqlite"
    return ServiceStarted(
        version=__version__,
        python=platform.python_version(),
        dataset=foundry.dataset_rid,
        branch=foundry.branch,
        journal="postgresql" if journal.is_shared else local_kind,
        file_format=foundry.file_format,
        file_layout=foundry.file_layout,
        waiting=await count_waiting(store.outbox, foundry.group),
        settings=list_differences(settings),
        replica=store.replica,
    )


async def count_waiting(outbox: ports.Outbox, limits: GroupLimits) -> int | None:
    """Return the number of waiting exports, None if the journal does not answer."""
    with suppress(Unavailable), anyio.move_on_after(QUESTION_SECONDS):
        return (await outbox.read_backlog(limits)).waiting
    return None
