"""Paginated listings of the files of a branch or of a transaction."""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from atlas.core.errors import FoundryError
from atlas.outside.foundry.client import ApiCall, FoundryClient
from atlas.outside.foundry.errors import raise_for_status
from atlas.outside.foundry.responses import ApiResponse, FileBody, FilePage

PAGE_SIZE = "1000"
PAGES_MAX = 10_000
NO_VIEW = "DatasetViewNotFound"  # nothing has been committed to the branch yet


class FilePages:
    """Lists the files of one branch of one dataset."""

    def __init__(self, client: FoundryClient, rid: str, branch: str) -> None:
        self._client = client
        self._path = f"/datasets/{quote(rid, safe='')}/files"
        self._branch = branch

    async def branch_files(self, prefix: str, files_max: int | None = None) -> list[FileBody]:
        """Return the files of the branch whose paths have this prefix, at most `files_max`.

        Raises FoundryError.
        """
        query = {"pathPrefix": prefix}
        first = await self._client.request(self._build_call(query))
        if first.has_error(NO_VIEW):
            return []
        files = list[FileBody]()
        async for file in self._files(first, query):
            files.append(file)
            if len(files) == files_max:
                break
        return files

    async def transaction_files(self, transaction: str) -> list[FileBody]:
        """Return the files of a committed transaction. Raises FoundryError."""
        query = build_transaction_query(transaction)
        first = await self._client.request(self._build_call(query))
        return [file async for file in self._files(first, query)]

    async def first_page(self, transaction: str, prefix: str = "") -> ApiResponse:
        """Return the first page of a transaction that may be open. Make only one attempt."""
        query = build_transaction_query(transaction) | ({"pathPrefix": prefix} if prefix else {})
        return await self._client.request_once(self._build_call(query))

    async def _files(
        self, response: ApiResponse, query: Mapping[str, str]
    ) -> AsyncIterator[FileBody]:
        """Yield the files of this page and all later ones. Raises FoundryError, also on a cycle."""
        tokens = set[str]()
        while True:
            page = raise_for_status(response).read(FilePage)
            for file in page.data:
                yield file
            token = page.next_page_token
            if not token:
                return
            if token in tokens or len(tokens) == PAGES_MAX:
                raise FoundryError("Foundry's listing of files does not end: its pages repeat.")
            tokens.add(token)
            response = await self._client.request(self._build_call({**query, "pageToken": token}))

    def _build_call(self, query: Mapping[str, str]) -> ApiCall:
        full_query = {**query, "branchName": self._branch, "pageSize": PAGE_SIZE}
        return ApiCall("files", "GET", self._path, full_query)


def build_transaction_query(transaction: str) -> dict[str, str]:
    return {"startTransactionRid": transaction, "endTransactionRid": transaction}
