"""Builds the uploader, and the operations that share its branch and its file format."""

from collections.abc import Callable, Collection
from importlib import import_module
from importlib.util import find_spec

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
from atlas.core.errors import ConfigurationError
from atlas.core.messages import Receipt
from atlas.outside.sqlite.compression import decompress_into
from atlas.runtime import CompletionRegistry, Lock, Wakeup
from atlas.service.dependencies import Dependencies
from atlas.settings import Settings


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


def build_offline_maintenance(dependencies: Dependencies, settings: Settings) -> BranchMaintenance:
    """Build maintenance for a single command, without a running flow."""
    uploader = build_uploader(dependencies, settings, CompletionRegistry[Receipt]())
    return BranchMaintenance(uploader, Wakeup())


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
            "ATLAS_FILE_FORMAT=parquet needs pyarrow: pip install 'atlas-healthkit[parquet]'."
        ) from error
    return FilePolicy(decompress_into, layout, PARQUET, wave, readable)


def write_parquet(ndjson: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415 - 60 MiB of memory, only if used

    return parquet.to_parquet(ndjson)


def read_parquet(file: ports.Bytes) -> ports.Bytes:
    from atlas.outside import parquet  # noqa: PLC0415

    return parquet.to_ndjson(file)


PARQUET = Format("parquet", write_parquet, read_parquet)
