"""A system of emulators with settings that point to them."""

import pytest

from tests.support.running_system import standing


@pytest.fixture
async def system(tmp_path):
    async with standing(tmp_path) as found:
        yield found
