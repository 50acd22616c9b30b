"""The Foundry emulator, served where commands look for the one of `atlas local`."""

import pytest
from aiohttp.test_utils import TestServer
from anyio.from_thread import start_blocking_portal

from atlas.local import foundry as local_foundry
from atlas.local.foundry.state import DATASET


@pytest.fixture
def emulator(tmp_path):
    return local_foundry.FoundryEmulator(tmp_path / "foundry")


@pytest.fixture
def url(emulator):
    """Serve the emulator where `atlas local` at this URL would."""
    from tests.support.processes import HOST, four_free_ports  # noqa: PLC0415 - it needs conftest

    port = four_free_ports()

    async def serve() -> TestServer:
        return TestServer(local_foundry.build_application(emulator), host=HOST, port=port + 1)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(portal.call(serve)),
    ):
        yield f"http://{HOST}:{port}"


def commit(emulator, files: dict[str, bytes], *, ends: bool = True) -> None:
    transaction = emulator.branches.begin(DATASET, "master", "APPEND")
    for path, content in files.items():
        emulator.branches.put(transaction, path, content)
    if ends:
        emulator.branches.commit(transaction)
