"""A Foundry emulator and a client for it."""

import pytest

from tests.local.caller import standing


@pytest.fixture
async def stack(tmp_path):
    async with standing(tmp_path) as caller:
        yield caller
