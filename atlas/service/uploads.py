"""Builds the uploader, and the operations that share its branch and its file format."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import anyio

from atlas.actors.upload import (
    NDJSON,
    BranchMaintenance,
    FilePolicy,
    Format,
    PersonalData,
    Publisher,
    SharedFiles,
    Uploader,
    UploadPolicy,
)
from atlas.core import ports
from atlas.core.errors import ConfigurationError, Unavailable
from atlas.core.messages import Receipt
from atlas.outside.journal.compression import decompress_into
from atlas.replicas import Leader
from atlas.runtime import CompletionRegistry, Lock, Wakeup, run_in_background
from atlas.service.dependencies import Dependencies
from atlas.service.extras import describe_missing_extra
from atlas.settings import Settings

CLEANUP_SECONDS = 10.0


def build_uploader(
    dependencies: Dependencies, settings: Settings, completions: CompletionRegistry[Receipt]
) -> Uploader:
    foundry = settings.foundry
    return Uploader(
        branch=dependencies.branch,
        outbox=dependencies.store.outbox,
        publisher=Publisher(completions, dependencies.clock, dependencies.emit),
        policy=UploadPolicy(
            group=foundry.group,
            interval_seconds=foundry.commit_interval_seconds,
            uploads_at_once=foundry.uploads_at_once,
            is_sole_writer=foundry.sole_writer,
        ),
        file_policy=build_file_policy(settings),
        compute=dependencies.compute,
        timing=dependencies.timing,
        emit=dependencies.emit,
    )


def build_personal_data(
    dependencies: Dependencies,
    settings: Settings,
    maintenance: BranchMaintenance,
    completions: CompletionRegistry[Receipt],
    replay_lock: Lock,
    discard_ids: Callable[[Collection[str]], object],
) -> PersonalData:
    branch, store = dependencies.branch, dependencies.store
    file_policy = build_file_policy(settings)
    return PersonalData(
        journal=store.personal_data,
        listing=branch,
        shared_files=SharedFiles(branch, store.outbox, file_policy, dependencies.compute),
        maintenance=maintenance,
        completions=completions,
        discard_ids=discard_ids,
        replay_lock=replay_lock,
        clock=dependencies.clock,
        emit=dependencies.emit,
    )


@asynccontextmanager
async def open_offline_maintenance(
    dependencies: Dependencies, settings: Settings
) -> AsyncIterator[BranchMaintenance]:
    """Open maintenance for a single command, without a running flow.

    On exit, wait until its transaction is closed, also after Ctrl-C; `CLEANUP_SECONDS` at most.
    """
    uploader = build_uploader(dependencies, settings, CompletionRegistry[Receipt]())
    leader = Leader(
        dependencies.store.leadership,
        uploader,
        upload_nothing,
        dependencies.timing.monotonic,
        dependencies.emit,
        is_candidate=False,
    )
    maintenance = BranchMaintenance(uploader, Wakeup(), leader.hold)
    async with run_in_background(leader.run):
        try:
            yield maintenance
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True), suppress(Unavailable):
                async with maintenance.exclusive():
                    pass


async def upload_nothing() -> None:
    """Run no uploader: a command uploads only what it needs."""


def build_file_policy(settings: Settings) -> FilePolicy:
    """Build the layout and format of files.

    Raises ConfigurationError if the format needs a package that is not installed.
    """
    foundry = settings.foundry
    layout, wave = foundry.file_layout, foundry.uploads_at_once
    readable = {} if find_spec("pyarrow") is None else {PARQUET.name: PARQUET}
    if foundry.file_format == "ndjson":
        return FilePolicy(decompress_into, layout, NDJSON, wave, readable)
    try:
        import_module("atlas.outside.parquet")
    except ImportError as error:
        raise ConfigurationError(
            describe_missing_extra("ATLAS_FILE_FORMAT=parquet", "pyarrow", "parquet")
        ) from error
    return FilePolicy(decompress_into, layout, PARQUET, wave, readable)


def write_parquet(ndjson: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415 - 60 MiB of memory, only if used

    return parquet.to_parquet(ndjson)


def read_parquet(file: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.to_ndjson(file)


def read_parquet_columns(file: ports.Bytes, names: Sequence[str]) -> Sequence[Sequence[Any]]:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.read_columns(file, names)


PARQUET = Format("parquet", write_parquet, read_parquet)
