"""No personal data and no secret leaves Atlas except into the dataset, whatever goes wrong.

Each field carries its own canary while Atlas goes through every fault scenario. Afterwards no
canary may be found in anything that its processes printed, logged, traced, answered, displayed or
left on disk. Successful responses are exempt: they repeat the manifest and the path to their own
sender. Correlation ids carry no canary: clients choose them in order to find them in the log.
"""

import base64
import json
import re
import signal
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from tests.support.canaries import Canaries, joined
from tests.support.fault_scenarios import good_exports, run_all_scenarios
from tests.support.sandbox import Sandbox, open_sandbox

MANIFEST, PATH = "manifest.", "sub "
COMMITTED = (
    *"json. batch. many. stream. odd. counted. first. poison. hangs. chunk.".split(),
    *(
        "request.device",
        "request.timestamp",
        "refused create",
        "refused upload",
        "refused commit",
        "sub ada",
        "sub dots",
        "sub nul",
    ),
)
SHARED = Path("/dev/shm")
# An operator has to know which device of a person has stopped.
SHOW_DEVICES = {
    "operator /personal-data",
    "operator /phones",
    "atlas person show",
    "atlas phones",
}
DEVICES = ("request.device", "chunk.device", "stream.device")


def places_of(sandbox: Sandbox) -> dict[str, bytes]:
    """Return everything that Atlas has written, except successful responses and the dataset."""
    ours = [file for file in sandbox.folder.rglob("*") if "foundry" not in file.parts]
    theirs = list(SHARED.glob("*")) if SHARED.exists() else []
    return {name: text for name, text in sandbox.told.items() if name != "answers of success"} | {
        "log": sandbox.log.encode(),
        "traces": joined(*sandbox.spans),
        "names of files": joined(*map(str, ours + theirs)),
    }


@pytest.mark.slow
async def test_no_canary_is_seen_outside_the_dataset(tmp_path):
    canaries = Canaries()
    async with open_sandbox(tmp_path, canaries) as sandbox:
        await run_all_scenarios(sandbox)
        for number, token in enumerate(sandbox.emulators.foundry._tokens):
            canaries.add(f"foundry.bearer {number}", token)

        places, success = places_of(sandbox), {"success": sandbox.told["answers of success"]}
        phones = {name: text for name, text in places.items() if name in SHOW_DEVICES}
        assert set(phones) == SHOW_DEVICES
        leaks = canaries.find_in({name: places[name] for name in set(places) - SHOW_DEVICES})
        leaks += canaries.find_in(success, MANIFEST, PATH) + canaries.find_in(phones, *DEVICES)
        assert not leaks, "\n".join(leaks)
        for name in (
            "traces",
            "operator /status/stream",
            "operator /metrics",
            "atlas diagnose --report",
        ):
            assert len(places[name]) > 100, "or nobody has looked"
        assert any(".damaged-" in name for name in places)
        for message in ("Request answered", "Operator request answered", "Atlas started"):
            assert f'"{message}"' in sandbox.log, "or nobody has logged"
        users = re.findall('"user":"([^"]*)"', sandbox.log)
        assert users
        assert all(re.fullmatch("[0-9a-f]{16}", user) for user in users)
        assert not list((tmp_path / "cwd").glob("core*"))
        is_committed(sandbox)


def is_committed(sandbox: Sandbox) -> None:
    """Check that all canaries reached the dataset; otherwise finding no leak proves nothing."""
    for name in COMMITTED:
        fields = sandbox.canaries.fields(name)
        assert fields
        assert {f for f in fields if sandbox.canaries[f].encode() not in sandbox.dataset} == set()


@pytest.mark.slow
async def test_a_leak_that_was_asked_for_is_seen(tmp_path):
    canaries = Canaries()
    async with open_sandbox(tmp_path, canaries, ATLAS_LOG_USER_IDS="true") as sandbox:
        await sandbox.start()
        await good_exports(sandbox)
        assert await sandbox.wait_for_exit(signal.SIGTERM) == 0
        seen = canaries.find_in(places_of(sandbox))

    assert f"sub ada in log, as it is (seed {canaries.seed})" in seen
    assert all(leak.startswith("sub ") and " in log, " in leak for leak in seen)


def in_base64(text: str, before: str) -> bytes:
    return base64.b64encode(f"{before}{text} and more".encode())


def each_of(form: str, text: str) -> bytes:
    return "".join(form.format(ord(character)) for character in text).encode()


WAYS = [
    pytest.param(lambda text: text.encode(), id="as it is"),
    pytest.param(lambda text: json.dumps({"é": [f"é{text}"]}).encode(), id="JSON"),
    pytest.param(lambda text: quote(f"/é{text}/", safe="").encode(), id="an address"),
    pytest.param(lambda text: repr(f"é{text}".encode()).encode(), id="a traceback"),
    pytest.param(lambda text: in_base64(text, ""), id="base64"),
    pytest.param(lambda text: in_base64(text, "a"), id="base64, a byte later"),
    pytest.param(lambda text: in_base64(text, "ab"), id="base64, two bytes later"),
    pytest.param(lambda text: base64.urlsafe_b64encode(f"?>{text}?>".encode()), id="base64url"),
    pytest.param(lambda text: f"é{text}".encode().hex().encode(), id="hex"),
    pytest.param(lambda text: text.encode().hex().upper().encode(), id="HEX"),
    pytest.param(lambda text: f"é{text}".encode("utf-16-le"), id="UTF-16"),
    pytest.param(lambda text: f"é{text}".encode("utf-16-be"), id="UTF-16, the other way"),
    pytest.param(lambda text: "".join(f"%{ord(c):02X}" for c in text).encode(), id="all escaped"),
    pytest.param(
        lambda text: "".join(f"\\u{ord(c):04x}" for c in text).encode(), id="in JSON, too"
    ),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_canary_is_known_however_it_is_written(way):
    canaries = Canaries("seed")
    for field, text in (("a", canaries["a"]), ("b", str(canaries.number("b")))):
        found = canaries.find_in({"somewhere": b"\n" + way(text) + b"\n"})
        assert {leak.partition(" ")[0] for leak in found} == {field}


def test_of_a_canary_that_is_not_there_nothing_is_said():
    canaries, others = Canaries("seed"), Canaries("another seed")
    assert canaries["a"] == Canaries("seed")["a"]
    text = msgspec.json.encode([others["a"], canaries["a"][:-1]])

    assert canaries.find_in({"somewhere": text}) == []
