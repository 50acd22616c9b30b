"""Builds the publisher of the stream beside the dataset, and runs it as long as the service."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial

from atlas.actors.publish import PublishPolicy, PublishTiming, StreamPublisher
from atlas.core import ports
from atlas.core.errors import CommandError, FoundryError, Unavailable
from atlas.core.stream import StreamKind, StreamLimits
from atlas.outside import foundry
from atlas.outside.journal.compression import decompress_parts
from atlas.runtime import OnCrash, RestartBudget, run_in_background, supervise
from atlas.service.dependencies import Dependencies, build_credentials, build_stream_target
from atlas.settings import Settings


def build_publisher(
    dependencies: Dependencies, settings: Settings, is_leading: Callable[[], bool]
) -> StreamPublisher | None:
    """Build the publisher; None without a stream."""
    if dependencies.stream is None:
        return None
    options, timing = settings.stream, dependencies.timing
    return StreamPublisher(
        queue=dependencies.store.stream,
        stream=dependencies.stream,
        policy=PublishPolicy(
            decompress_parts,
            StreamLimits(options.records_max, options.bytes_max),
            options.calls_at_once,
            options.backlog_bytes_max,
            timedelta(hours=options.backlog_hours),
        ),
        compute=dependencies.compute,
        timing=PublishTiming(dependencies.clock, timing.monotonic, timing.random),
        emit=dependencies.emit,
        is_leading=is_leading,
    )


def build_stream_request(folder: str, name: str, kind: StreamKind) -> dict[str, object]:
    """Build the request that creates a stream for Atlas's records."""
    return foundry.build_create_request(folder, name, kind)


async def create_stream(settings: Settings, folder: str, name: str, kind: StreamKind) -> str:
    """Create a stream in a folder, and return its RID. Raises CommandError with a remedy."""
    target, credentials = build_stream_target(settings), build_credentials(settings)
    async with foundry.open_stream_client(target, credentials, time.monotonic) as client:
        try:
            return await foundry.create_stream(client, build_stream_request(folder, name, kind))
        except FoundryError as error:
            raise CommandError(f"{error} {error.remedy}") from error


@asynccontextmanager
async def publish_in_background(
    publisher: StreamPublisher | None, queue: ports.StreamQueue, on_crash: OnCrash
) -> AsyncIterator[None]:
    """Publish until the context ends. The rest is published after the next start.

    Without a publisher, drop what an earlier one has left.
    """
    if publisher is None:
        with suppress(Unavailable):
            await queue.clear()
        yield
        return
    publish, watch = (
        partial(supervise, "publish", run, RestartBudget(), on_crash, is_vital=False)
        for run in (publisher.run, publisher.watch_backlog)
    )
    async with run_in_background(publish), run_in_background(watch):
        yield
