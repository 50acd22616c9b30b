"""Creation of a View: a virtual dataset that has the latest row of each sample."""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from msgspec import Struct

from atlas.core.errors import FoundryError
from atlas.core.inspection import ViewRequest
from atlas.core.stream import DELETION_COLUMN, KEY_COLUMNS, ORDERING_COLUMN
from atlas.outside.foundry.client import ApiCall, FoundryClient, TransientError
from atlas.outside.foundry.errors import MAKE_EDITOR, build_optional_error, build_typed_error
from atlas.outside.foundry.responses import Rid

ROLE = "In Foundry, give the service user of our client the role Editor on the folder's project."
CHANGED = (
    "Something between Atlas and Foundry changes requests: let this machine reach it directly."
)
PUT_SCHEMA = "Put the schema of 23 columns: atlas diagnose --replace-schema"
MAY_EXIST = "The View may exist."
LOOK = "Look into the folder in Foundry before another attempt."
# The reason and the remedy of each documented error
VIEW_ERRORS: Mapping[str, tuple[str, str]] = {
    "CreateViewPermissionDenied": (
        "our client may not create a View in this folder",
        ROLE,
    ),
    "CreateDatasetPermissionDenied": (
        "our client may not create a dataset in this folder, and a View is one",
        ROLE,
    ),
    "FolderNotFound": (
        "it does not know the folder, or our client has no role on it",
        "Check --folder: in Foundry, the folder, Details, RID. Then give our client a role on it.",
    ),
    "InputBackingDatasetNotInOutputViewProject": (
        "the dataset is not in the project of the folder",
        "Take a folder in the dataset's project, or add the dataset to that project's references.",
    ),
    "InvalidDisplayName": (
        "the name is not allowed",
        "Choose another --name: at most 700 characters, no slash, not . or ..",
    ),
    "InvalidViewBackingDataset": (
        "it does not find the dataset, or our client may not read it",
        f"Check FOUNDRY_DATASET_RID and FOUNDRY_BRANCH. {MAKE_EDITOR}.",
    ),
    "InvalidViewPrimaryKeyColumnType": (
        "a column of the key has a type that a key cannot have",
        PUT_SCHEMA,
    ),
    "InvalidViewPrimaryKeyDeletionColumn": (
        f"{DELETION_COLUMN} is not BOOLEAN in the schema of the dataset",
        PUT_SCHEMA,
    ),
    "ViewPrimaryKeyDeletionColumnNotInDatasetSchema": (
        f"the schema of the dataset has no column {DELETION_COLUMN}",
        PUT_SCHEMA,
    ),
    "NotAllColumnsInPrimaryKeyArePresent": (
        f"the schema of the dataset lacks {' or '.join(KEY_COLUMNS)}",
        PUT_SCHEMA,
    ),
    "ViewPrimaryKeyMustContainAtLeastOneColumn": (
        "it has not received the columns of the key",
        CHANGED,
    ),
    "ViewPrimaryKeyRequiresBackingDatasets": (
        "it has not received the dataset of the View",
        CHANGED,
    ),
    "ResourceNameAlreadyExists": (
        "the folder has something of this name already",
        "Choose another --name, or use what is there: the key of a View cannot be changed.",
    ),
    "NotAuthorizedToDeclassifyMarkings": (
        "the dataset has markings that our client may not remove, and Atlas asks to remove none",
        "Ask the administrator of the markings, or create the View in Foundry by hand.",
    ),
    "ViewNotFound": (
        "it does not find the View that it was creating, perhaps because of its branch",
        "Check --branch. Look into the folder before another attempt.",
    ),
    "ViewDatasetCleanupFailed": (
        "it could not create the View, and may have left an empty dataset in the folder",
        "Remove that dataset in Foundry, then try again.",
    ),
}


class CreatedView(Struct, frozen=True, rename="camel"):
    """A View that was created."""

    dataset_rid: Rid


def build_view_body(request: ViewRequest) -> dict[str, object]:
    """Build the body of the request. The latest row of each sample counts, unless it deletes it."""
    backing = {
        "datasetRid": request.dataset_rid,
        "branch": request.dataset_branch,
        "stopPropagatingMarkingIds": [],
    }
    strategy = {"type": "latestWins", "columns": [ORDERING_COLUMN]}
    resolution = {
        "type": "duplicate",
        "deletionColumn": DELETION_COLUMN,
        "resolutionStrategy": strategy,
    }
    return {
        "viewName": request.name,
        "parentFolderRid": request.folder_rid,
        "backingDatasets": [backing],
        "branch": request.branch,
        "primaryKey": {"columns": list(KEY_COLUMNS), "resolution": resolution},
    }


async def create_view(client: FoundryClient, request: ViewRequest) -> str:
    """Create a View in one attempt, and return its RID. Raises FoundryError with a remedy."""
    content = msgspec.json.encode(build_view_body(request))
    call = ApiCall("inspect", "POST", "/datasets/views", None, content, "application/json")
    try:
        response = await client.request_once(call)
    except TransientError as error:
        known = VIEW_ERRORS.get(error.error_name.rpartition(":")[2])
        if known is not None:  # ViewDatasetCleanupFailed is a 500
            raise FoundryError(f"{error} That is: {known[0]}.", remedy=known[1]) from error
        raise FoundryError(f"{error} {MAY_EXIST}", remedy=LOOK) from error
    if response.is_success:
        try:
            return response.read(CreatedView).dataset_rid
        except FoundryError as error:
            raise FoundryError(f"{error} {MAY_EXIST}", remedy=LOOK) from error
    known = VIEW_ERRORS.get(response.error.base_name)
    raise (
        build_optional_error(response, "Views")
        if known is None
        else build_typed_error(FoundryError, response, *known)
    )


def build_preview_url(host: str, rid: str, branch: str) -> str:
    """Build the address of a dataset or a View in Foundry's own pages."""
    path = f"/workspace/data-integration/dataset/preview/{rid}/{quote(branch, safe='')}"
    return f"{host}{path}"
