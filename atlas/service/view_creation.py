"""A View over the dataset, for a command: the latest row of each sample, without a build."""

from collections.abc import Sequence
from dataclasses import dataclass

from atlas.core.dataset_schema import list_columns
from atlas.core.errors import CommandError, ConfigurationError, FoundryError
from atlas.core.inspection import ViewRequest
from atlas.core.personal_data import DatasetFile
from atlas.core.rows import KEYED_COLUMNS
from atlas.diagnose import describe_difference
from atlas.outside.foundry import FoundryInspection, build_preview_url, build_view_body
from atlas.service.diagnosis import open_authorized_inspection
from atlas.service.row_reader import RowReader, find_time
from atlas.settings import Settings

KEYED = len(KEYED_COLUMNS)
SAMPLE_BYTES_MAX = 4 * 1024 * 1024
UNREAD = "It is not known if all rows have a sample_key: the oldest file was not read."
UNKEYED = (
    "The oldest file has rows without sample_key, as Atlas writes them if ATLAS_COLUMNS is 21. The "
    "View takes all of them for one sample of a user: use the transforms, or another dataset."
)


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """A View that can be created: the body of the request, and warnings."""

    request: dict[str, object]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A View that was created, and its address in Foundry."""

    rid: str
    url: str


def build_view_request(
    settings: Settings, folder: str, name: str, branch: str | None
) -> ViewRequest:
    """Build the request. Raises ConfigurationError if the rows have no key."""
    target = settings.foundry
    if settings.export.columns != KEYED:
        raise ConfigurationError(
            f"ATLAS_COLUMNS is {settings.export.columns}, and a View needs the columns sample_key "
            f"and is_deleted: set ATLAS_COLUMNS={KEYED}, restart Atlas, and send exports."
        )
    return ViewRequest(name, folder, branch or target.branch, target.dataset_rid, target.branch)


async def plan_view(settings: Settings, request: ViewRequest) -> ViewPlan:
    """Check that the View can be created. Raises CommandError with a remedy."""
    try:
        async with open_authorized_inspection(settings) as inspection:
            await check_columns(inspection)
            warning = await find_warning(inspection)
    except FoundryError as error:
        raise CommandError(str(error)) from error
    return ViewPlan(build_view_body(request), (warning,) if warning else ())


async def create_view(settings: Settings, request: ViewRequest) -> DatasetView:
    """Create the View. Raises CommandError with a remedy."""
    try:
        async with open_authorized_inspection(settings) as inspection:
            rid = await inspection.create_view(request)
    except FoundryError as error:
        raise CommandError(str(error)) from error
    return DatasetView(rid, build_preview_url(settings.foundry.host, rid, request.branch))


async def check_columns(inspection: FoundryInspection) -> None:
    """Raise CommandError unless the schema of the dataset has all of our columns and types."""
    columns = await inspection.schemas.get_columns()
    if columns is None:
        raise CommandError(
            "The dataset has no schema, and a View needs one: atlas diagnose --fix-schema"
        )
    keyed = [each for each in columns if each.name in KEYED_COLUMNS]  # others do no harm
    if difference := describe_difference(keyed, list_columns(KEYED)):
        raise CommandError(
            f"The schema of the dataset does not fit a View: {difference}. Put ours: "
            "atlas diagnose --replace-schema"
        )


async def find_warning(inspection: FoundryInspection) -> str:
    """Return a warning if the rows of the oldest file have no key, or if that is not known."""
    reader = RowReader(inspection.dataset)
    try:
        oldest = find_oldest(await reader.list_files())
        if oldest is None:
            return ""
        if oldest.bytes > SAMPLE_BYTES_MAX:
            return UNREAD
        rows = await reader.read(oldest)
    except (CommandError, FoundryError):  # pyarrow is missing, or Foundry does not show the file
        return UNREAD
    lines = bytes(rows).splitlines()
    return "" if all(b'"sample_key":"' in line for line in lines) else UNKEYED


def find_oldest(files: Sequence[DatasetFile]) -> DatasetFile | None:
    """Return the oldest file; one whose name has no time is older than all others."""
    return min(files, key=find_time, default=None)
