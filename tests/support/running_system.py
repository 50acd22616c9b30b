"""Emulated Foundry and Auth0, settings for them, and optionally a service between them."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import msgspec
from aiohttp.test_utils import TestServer

from atlas import service
from atlas.core.diagnosis import CheckResult, Diagnosis, DiagnosisRequest
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import FileFormat
from atlas.local import auth0, foundry
from atlas.local.auth0 import Auth0Emulator, KeyRing, TokenRequest, generate_key
from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from atlas.server import bind
from atlas.settings import Auth0Settings as Tenant
from atlas.settings import EdgeSettings, JournalSettings, OperatorSettings, Settings, StreamSettings
from atlas.settings import FoundrySettings as Stack
from tests.conftest import Answer, asgi
from tests.support.listeners import FastShutdownListener

HOST = "127.0.0.1"
KEYS = [generate_key() for _ in range(2)]  # Made once: slower than everything else here
CLIENT_SECRET = "local-secret"


@dataclass
class System:
    """The environment of a diagnosis, set before it runs."""

    folder: Path
    foundry: FoundryEmulator
    tenant: Auth0Emulator
    stack_host: str
    issuer: str
    client_secret: str = CLIENT_SECRET
    branch: str = "master"
    dataset: str = DATASET
    required_scope: str = ""
    auth0: dict[str, Any] = field(default_factory=dict)  # more settings of the tokens
    format: FileFormat = "ndjson"
    journal_keys: tuple[str, ...] = ()
    journal_bounds: dict[str, Any] = field(default_factory=dict)
    journal_url: str = ""  # of a database; the default is a file
    port: int = 1
    operator_token: str = ""
    stream: str = ""  # its RID

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    def settings(self) -> Settings:
        host = self.stack_host
        return Settings(
            edge=EdgeSettings(host=HOST, port=self.port),
            auth0=Tenant(issuer=self.issuer, required_scope=self.required_scope, **self.auth0),
            journal=JournalSettings(
                url=self.journal_url or f"sqlite:///{self.journal}",
                keys=self.journal_keys,
                **({"free_bytes_min": 0} | self.journal_bounds),
            ),
            foundry=Stack(
                host=host,
                client_id="local",
                client_secret=self.client_secret,
                oauth_token_url=host and f"{host}/multipass/api/oauth2/token",
                dataset_rid=self.dataset,
                branch=self.branch,
                file_format=self.format,
                commit_interval_seconds=0,
            ),
            stream=StreamSettings(rid=self.stream),
            operator=OperatorSettings(token=self.operator_token),
        )

    def token(self, **wish: Any) -> str:
        return self.tenant.issue_token(TokenRequest(**wish))

    def fault(self, call: str, kind: str, **more: Any) -> None:
        self.foundry.faults.add(Fault(call, kind, **more))

    def committed(self, path: str, content: bytes, kind: str = "APPEND") -> None:
        """Commit a file as another writer."""
        branches = self.foundry.branches
        found = branches.begin(DATASET, "master", kind, owner="foreign")
        branches.put(found, path, content)
        branches.commit(found)

    def states(self) -> list[str]:
        return [each.status for each in self.foundry.branches.transactions.values()]

    async def diagnosed(
        self,
        token: str | None = None,
        url: str | None = None,
        proof: str | None = None,
        **more: Any,
    ):
        """Run the diagnosis without a running service."""
        asked = DiagnosisRequest(token, url, proof)
        return await service.diagnose_offline(
            self.settings(), asked, **({"is_locked": False} | more)
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Serving"]:
        """Run a real service at a real socket."""
        with bind(HOST, 0) as bound:
            self.port = bound.getsockname()[1]
            settings = self.settings()
            async with (
                service.open_journal(settings, io.StringIO()) as (store, readers),
                service.open_dependencies(settings, store, readers) as world,
                service.run_service(world, settings) as atlas,
                anyio.create_task_group() as tasks,
            ):
                listener = FastShutdownListener(atlas.public, bound)
                tasks.start_soon(listener.listen)
                yield Serving(self, atlas)
                listener.end()


@dataclass
class Serving:
    """A running service, as its operators query it."""

    system: System
    atlas: service.Service

    async def diagnosed(
        self, token: str | None = None, url: str | None = None, **headers: str
    ) -> Diagnosis:
        body = msgspec.json.encode(DiagnosisRequest(token, url))
        answer = await self.asked("/diagnose", body, **headers)
        assert answer.status == 200
        return msgspec.convert(answer.body, Diagnosis)

    async def asked(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        named = {"host": f"{HOST}:9464"} | headers
        return await asgi(self.atlas.operator, "POST", path, named, body)

    async def send(self, ndjson: dict[str, object], token: str, prefer: str = "wait=20") -> Answer:
        headers = {"authorization": f"Bearer {token}", "prefer": prefer}
        path = f"{API_PREFIX}/export"
        return await asgi(self.atlas.public, "POST", path, headers, msgspec.json.encode(ndjson))


@asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[System]:
    stack = FoundryEmulator(folder / "foundry")
    tenant = Auth0Emulator("to be told", ring=KeyRing(*KEYS))
    async with (
        TestServer(foundry.build_application(stack)) as there,
        TestServer(auth0.build_application(tenant)) as issuer,
    ):
        tenant.issuer = str(issuer.make_url("/"))
        host = str(there.make_url("")).rstrip("/")
        yield System(folder, stack, tenant, host, tenant.issuer)


def step(found: Diagnosis, number: int) -> CheckResult:
    return found.steps[number - 1]


def first_failing(found: Diagnosis) -> int:
    """Return the check that sets the exit code."""
    return max(found.exit_code - 10, 0)
