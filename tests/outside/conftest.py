"""Several replicas on one schema."""

import pytest

from tests.support.replicas import open_replicas


@pytest.fixture
async def replicas(postgres_servers):
    async with open_replicas(postgres_servers) as replicas:
        yield replicas
