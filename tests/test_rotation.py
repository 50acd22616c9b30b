"""A new key is good within ten seconds, also under a flood of unknown key ids: in real time."""

import time
from itertools import count

import anyio
import pytest

from atlas.local.auth0 import KeyRing, TokenRequest, generate_key
from tests.support.running_system import standing
from tests.support.token_forgery import edited

FLOOD_SECONDS, ROTATE_AFTER_SECONDS = 30.0, 3.0


@pytest.fixture
async def system(tmp_path):
    async with standing(tmp_path) as found:
        yield found


@pytest.mark.slow
async def test_a_new_key_is_good_within_ten_seconds_of_a_flood_of_unknown_kids(system):
    tenant = system.tenant
    async with system.serving() as serving, anyio.create_task_group() as tasks:
        known = system.token()

        async def flood() -> None:
            for number in count():
                forged = edited(known, 0, kid=f"random-{number}")
                assert (await serving.send({}, forged)).status == 401
                await anyio.sleep(0.005)

        for _ in range(4):
            tasks.start_soon(flood)
        started_at = time.monotonic()
        await anyio.sleep(ROTATE_AFTER_SECONDS)
        tenant.ring = KeyRing(generate_key(), generate_key())
        new, rotated_at = tenant.issue_token(TokenRequest()), time.monotonic()
        while (await serving.send({}, new)).status == 401:
            await anyio.sleep(0.02)
        seconds = time.monotonic() - rotated_at
        assert (await serving.send({}, known)).status == 401  # its key is gone
        await anyio.sleep(FLOOD_SECONDS - (time.monotonic() - started_at))
        fetches = tenant.request_counts["jwks"]
        tasks.cancel_scope.cancel()

    assert seconds <= 10.0
    assert fetches <= FLOOD_SECONDS / 6.0
