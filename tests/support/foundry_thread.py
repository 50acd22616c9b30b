"""A Foundry emulator in a thread of its own, for commands and clients that block."""

from dataclasses import dataclass

import pytest
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal

from atlas.local.foundry import FoundryEmulator, build_application
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.state import DATASET
from tests.support.running_system import CLIENT_SECRET


@dataclass
class FoundryThread:
    """An emulator, and its port on this machine."""

    foundry: FoundryEmulator
    port: int

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a client of this emulator."""
        host = f"http://127.0.0.1:{self.port}"
        return {
            "AUTH0_DOMAIN": "atlas.invalid",
            "FOUNDRY_HOST": host,
            "FOUNDRY_CLIENT_ID": "local",
            "FOUNDRY_CLIENT_SECRET": CLIENT_SECRET,
            "FOUNDRY_OAUTH_TOKEN_URL": f"{host}/multipass/api/oauth2/token",
        }

    def commit(self, path: str, content: bytes, kind: str = "APPEND") -> str:
        """Commit a file, and return the transaction."""
        branches = self.foundry.branches
        transaction = branches.begin(DATASET, "master", kind, owner="foreign")
        branches.put(transaction, path, content)
        branches.commit(transaction)
        return transaction.rid

    def fault(self, call: str, kind: str, **more: object) -> None:
        self.foundry.faults.add(Fault(call, kind, **more))


@pytest.fixture
def foundry_thread(tmp_path_factory):
    foundry = FoundryEmulator(tmp_path_factory.mktemp("foundry"))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(TestServer(build_application(foundry))) as server,
    ):
        yield FoundryThread(foundry, server.port)
