"""A Foundry emulator and a client for it."""

import pytest

from tests.local.caller import open_caller


@pytest.fixture
async def stack(tmp_path):
    async with open_caller(tmp_path) as caller:
        yield caller
