"""A plain service, as the old one did it: an export, a transaction. No journal, no actors.

Started as `python -m tests.bench.plain`, with the environment variables of Atlas. It checks tokens,
flattens and answers as Atlas does, on the same server, and keeps its Foundry token.
"""

import base64
import json
import os
import uuid
from typing import Any
from urllib.parse import quote

import aiohttp
import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from yarl import URL

from atlas.core.rows import Header
from atlas.process import address, bind
from tests.bench.codec import plain

RID = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"


class Failed(Exception):
    """Foundry did not take it."""


class Service:
    def __init__(self) -> None:
        self.foundry = os.environ["FOUNDRY_HOST"]
        self.keys: KeySet | None = None
        self.token = ""
        self.session: aiohttp.ClientSession | None = None

    async def export(self, request: Request) -> JSONResponse:
        if self.session is None:
            await self.connect()
        token = request.headers["authorization"].removeprefix("Bearer ")
        user = jwt.decode(token, self.keys, algorithms=["RS256"]).claims["sub"]
        body = json.loads(await request.body())
        lines = base64.b64decode(body["rawhealthkit"]).splitlines()
        now = "2025-09-26T06:30:00.000Z"
        ndjson = plain(lines, Header(user, body.get("device", "unknown"), now, now))
        try:
            transaction = await self.upload(f"healthkit/raw/{user}/{uuid.uuid4()}.ndjson", ndjson)
        except Failed as error:
            return JSONResponse({"error": str(error)}, 500)
        return JSONResponse({"success": True, "transaction_rid": transaction})

    async def upload(self, path: str, ndjson: bytes) -> str:
        begun = await self.post("/transactions", json={"transactionType": "APPEND"})
        rid: str = begun["rid"]
        await self.post(f"/files/{quote(path, safe='')}/upload?transactionRid={rid}", data=ndjson)
        await self.post(f"/transactions/{rid}/commit")
        return rid

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        assert self.session is not None
        url = URL(f"{self.foundry}/api/v2/datasets/{RID}{path}", encoded=True)
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.post(url, headers=headers, **body) as answer:
            if answer.status != 200:
                raise Failed(f"Foundry answered {answer.status}")
            return await answer.json()  # type: ignore[no-any-return]

    async def connect(self) -> None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with session.get(os.environ["AUTH0_ISSUER"] + ".well-known/jwks.json") as answer:
            self.keys = KeySet.import_key_set(await answer.json())
        form = {
            "grant_type": "client_credentials",
            "client_id": os.environ["FOUNDRY_CLIENT_ID"],
            "client_secret": os.environ["FOUNDRY_CLIENT_SECRET"],
        }
        url = f"{self.foundry}/multipass/api/oauth2/token"
        async with session.post(url, data=form) as answer:
            self.token = (await answer.json())["access_token"]
        self.session = session


def main() -> None:
    app = Starlette(routes=[Route("/api/v1/healthkit/export", Service().export, methods=["POST"])])
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", log_config=None, access_log=False, lifespan="off"
    )
    bound = bind("127.0.0.1", 0)
    print(f"ready {address(bound)}", flush=True)
    uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main()
