"""Reads the rows of the dataset for a command: those of committed files only."""

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic

from atlas.actors.upload.conflicts import read_if_served
from atlas.core import identifiers, ports
from atlas.core.errors import CommandError
from atlas.core.messages import User
from atlas.core.personal_data import DatasetFile
from atlas.core.sample_counts import (
    EARLIEST_DAY,
    DatasetCounts,
    SampleCounter,
    SampleRow,
    decode_rows,
)
from atlas.outside import foundry
from atlas.runtime import for_each_concurrently
from atlas.service.dependencies import build_credentials, build_target
from atlas.service.extras import describe_missing_extra
from atlas.service.subscribers import utc_now
from atlas.service.uploads import PARQUET, read_parquet_columns
from atlas.settings import Settings

FOLDERS = ("healthkit/raw/", identifiers.GROUPS)
CALL_SECONDS, CALLS_AT_ONCE = 60.0, 4
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class RowReader:
    """The files of rows on the branch, and their contents as NDJSON. Raises FoundryError."""

    def __init__(self, branch: ports.Branch) -> None:
        self._branch = branch

    async def list_files(self, user: User | None = None) -> Sequence[DatasetFile]:
        """List the files, the newest first; for a user, their own files and all shared ones."""
        raw, groups = FOLDERS
        prefixes = (raw if user is None else identifiers.build_user_prefix(user), groups)
        files = [file for prefix in prefixes for file in await self._branch.list_files(prefix)]
        return sorted(files, key=find_time, reverse=True)

    async def read(self, file: DatasetFile) -> ports.Bytes:
        """Read a file as NDJSON.

        Raises CommandError if it needs a package that is missing, or is too large for Foundry.
        """
        content = await read_if_served(self._branch, file.path, file.bytes)
        if content is None:
            raise CommandError(f"Foundry does not serve {get_name(file)}: it is too large.")
        if identifiers.detect_format(file.path) == "ndjson":
            return content
        try:
            return PARQUET.read(content)
        except ImportError as error:
            raise CommandError(
                describe_missing_extra("Reading a Parquet file", "pyarrow", "parquet")
            ) from error
        except ValueError as error:
            raise CommandError(str(error)) from error

    async def count_samples(
        self,
        user: User,
        time_zones: Collection[str | None],
        first: date,
        progress: Callable[[DatasetFile], object],
    ) -> DatasetCounts:
        """Count a user's samples by type, day and time zone, from the day `first` on.

        Files that were accepted before that day have none of them. Those that Foundry does not
        serve for their size are left out, and returned. `progress` is called for each file.
        Raises CommandError.
        """
        counter, unread = SampleCounter(user.sub, time_zones, first), list[DatasetFile]()
        files = [file for file in await self.list_files(user) if may_have_samples(file, first)]

        async def count(file: DatasetFile) -> None:
            content = await read_if_served(self._branch, file.path, file.bytes)
            if content is None:
                unread.append(file)
            else:
                counter.add(decode_samples(content, file, user))
            progress(file)

        await for_each_concurrently(count, files, CALLS_AT_ONCE)
        return DatasetCounts(counter.count(), tuple(unread))


def decode_samples(content: ports.Bytes, file: DatasetFile, user: User) -> Iterable[SampleRow]:
    """Decode the columns that are needed to count samples. Raises CommandError."""
    try:
        if identifiers.detect_format(file.path) == "parquet":
            return map(SampleRow, *read_parquet_columns(content, SampleRow.__struct_fields__))
        return decode_rows(content, user)
    except ImportError as error:
        missing = describe_missing_extra("Reading a Parquet file", "pyarrow", "parquet")
        raise CommandError(missing) from error
    except ValueError as error:  # that of msgspec, too; its text may quote the row
        raise CommandError(f"{get_name(file)} has a line that is not a row of Atlas.") from error


def get_name(file: DatasetFile) -> str:
    return file.path.rpartition("/")[2]


def may_have_samples(file: DatasetFile, first: date) -> bool:
    """True if the file may have samples of this day or later, in any time zone.

    A file was accepted after its samples began. One whose name has no time may have any.
    """
    since = datetime.combine(max(first, EARLIEST_DAY), time.min, UTC) - timedelta(days=1)
    at = find_time(file)
    return at == LONG_AGO or at >= since


def find_time(file: DatasetFile) -> datetime:
    """Return the time in the file's name; the time of other files is long ago."""
    try:
        return identifiers.parse_path_time(file.path)
    except ValueError:
        return LONG_AGO


@asynccontextmanager
async def open_row_reader(settings: Settings) -> AsyncIterator[RowReader]:
    """Open the dataset of the settings. Raises ConfigurationError."""
    per_minute = settings.foundry.requests_per_minute
    async with foundry.open_dataset(
        build_target(settings),
        build_credentials(settings),
        foundry.CallLimits(CALLS_AT_ONCE, per_minute, CALL_SECONDS),
        lambda _event: None,
        utc_now,
        monotonic,
        random.Random().random,  # noqa: S311 - only spreads retries
    ) as branch:
        yield RowReader(branch)
