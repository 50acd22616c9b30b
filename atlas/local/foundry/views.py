"""Foundry's endpoints about Views: virtual datasets with the latest row of each key."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from atlas.local.foundry.branches import FoundryApiError
from atlas.local.foundry.pipeline import read_body
from atlas.local.foundry.state import FoundryEmulator
from atlas.local.foundry.tables import StoredView
from atlas.local.http import json_response

# The folder of the datasets, and one in another project
FOLDER, OTHER_FOLDER = "ri.compass.main.folder.1", "ri.compass.main.folder.2"
NAME_CHARACTERS_MAX = 700
KEY_TYPES = {
    "BYTE",
    "SHORT",
    "DECIMAL",
    "INTEGER",
    "LONG",
    "STRING",
    "BOOLEAN",
    "TIMESTAMP",
    "DATE",
}


class ViewEndpoints:
    """One method for each endpoint."""

    def __init__(self, foundry: FoundryEmulator) -> None:
        self._branches = foundry.branches
        self._tables = foundry.tables

    async def create(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        view = StoredView(
            str(body.get("viewName", "")),
            str(body.get("parentFolderRid", "")),
            str(body.get("branch") or "master"),
            body.get("backingDatasets") or [],
            body.get("primaryKey"),
        )
        self._check_location(view)
        kinds = self._check_backing(view)
        if view.key is not None:
            check_key(view.key, view.backing, kinds)
        rid = f"ri.foundry.main.dataset.{uuid.uuid4()}"
        self._tables.views[rid] = view
        return json_response(describe_view(rid, view))

    async def get(self, request: web.Request) -> web.Response:
        rid = request.match_info["view"]
        if rid not in self._tables.views:
            raise FoundryApiError(404, "ViewNotFound", viewDatasetRid=rid, branch="master")
        return json_response(describe_view(rid, self._tables.views[rid]))

    def _check_location(self, view: StoredView) -> None:
        """Refuse a name or a folder that is not possible."""
        if view.name in {"", ".", ".."} or "/" in view.name or len(view.name) > NAME_CHARACTERS_MAX:
            raise FoundryApiError(400, "InvalidDisplayName", displayName=view.name)
        if view.folder not in {FOLDER, OTHER_FOLDER}:
            raise FoundryApiError(404, "FolderNotFound", folderRid=view.folder)
        for each in self._tables.views.values():
            if (each.folder, each.name) == (view.folder, view.name):
                raise FoundryApiError(
                    409,
                    "ResourceNameAlreadyExists",
                    parentFolderRid=view.folder,
                    displayName=view.name,
                )

    def _check_backing(self, view: StoredView) -> dict[str, str]:
        """Refuse datasets that cannot back this View, and return the types of their columns."""
        kinds = dict[str, str]()
        for each in view.backing:
            rid, branch = each["datasetRid"], each.get("branch") or view.branch
            markings = each["stopPropagatingMarkingIds"]
            if markings:
                raise FoundryApiError(403, "NotAuthorizedToDeclassifyMarkings", markingIds=markings)
            try:
                self._branches.get_branch(rid, branch)
            except FoundryApiError as error:
                raise FoundryApiError(400, "InvalidViewBackingDataset", datasetRid=rid) from error
            if view.folder != FOLDER:
                raise FoundryApiError(
                    400,
                    "InputBackingDatasetNotInOutputViewProject",
                    viewProjectRid=view.folder,
                    invalidBackingDatasets=[rid],
                )
            if (rid, branch) in self._tables.schemas:
                kinds |= self._tables.schemas[rid, branch].kinds
        return kinds


def check_key(key: Mapping[str, Any], backing: Sequence[Any], kinds: Mapping[str, str]) -> None:
    """Refuse a key that does not fit the columns of the backing datasets."""
    columns = key["columns"]
    if not backing:
        raise FoundryApiError(400, "ViewPrimaryKeyRequiresBackingDatasets")
    if not columns:
        raise FoundryApiError(400, "ViewPrimaryKeyMustContainAtLeastOneColumn")
    named = {"primaryKeyColumns": columns}
    if missing := [name for name in columns if name not in kinds]:
        name = "NotAllColumnsInPrimaryKeyArePresent"
        raise FoundryApiError(400, name, **named, missingColumns=missing)
    if invalid := [name for name in columns if kinds[name] not in KEY_TYPES]:
        name = "InvalidViewPrimaryKeyColumnType"
        raise FoundryApiError(400, name, **named, invalidColumns=invalid)
    deletion = key["resolution"].get("deletionColumn")
    if deletion is not None and deletion not in kinds:
        name = "ViewPrimaryKeyDeletionColumnNotInDatasetSchema"
        raise FoundryApiError(400, name, deletionColumn=deletion)
    if deletion is not None and kinds[deletion] != "BOOLEAN":
        name, kind = "InvalidViewPrimaryKeyDeletionColumn", kinds[deletion]
        raise FoundryApiError(400, name, deletionColumn=deletion, deletionColumnType=kind)


def describe_view(rid: str, view: StoredView) -> dict[str, Any]:
    described = {
        "viewName": view.name,
        "datasetRid": rid,
        "parentFolderRid": view.folder,
        "branch": view.branch,
        "backingDatasets": view.backing,
    }
    return described if view.key is None else described | {"primaryKey": view.key}
