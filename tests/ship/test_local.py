"""`atlas serve --config config/local.toml` next to a running `atlas local`."""

import pytest

from tests.chaos.trial_environment import find_free_port
from tests.ship.files import CONFIG
from tests.support.processes import (
    HOST,
    SECONDS_OF_ALL,
    Local,
    fetched,
    killed_at_last,
    local,
    started,
    until_ready,
)


@pytest.mark.slow
def test_a_second_service_works_with_the_stand_ins_of_the_first(tmp_path):
    text = (CONFIG / "local.toml").read_text(encoding="utf-8")
    with local(tmp_path) as first:
        port, elsewhere = find_free_port(), f'[operator]\nlisten = "{HOST}:{find_free_port()}"\n'
        for there, here in ((8081, first.port + 1), (8082, first.port + 2), (8090, port)):
            assert str(there) in text
            text = text.replace(str(there), str(here))
        (tmp_path / "local.toml").write_text(text + elsewhere)
        with (tmp_path / "log-of-it").open("wb") as log:
            command = ("serve", "--config", tmp_path / "local.toml")
            process = started(tmp_path, *command, log=log.fileno())
        with killed_at_last(process, SECONDS_OF_ALL):
            said = "".join(until_ready(process))
            token = fetched(f"http://{HOST}:{first.port + 2}/stand-in/tokens").decode()
            status, receipt = Local(process, port, tmp_path, said).post("a", "wait=20", token)

        assert (status, receipt["status"]) == (200, "committed")
        assert first.uuids() == ["a"]
