"""The deployment files agree with each other, with the image and with the code."""

import base64
import re

import pytest

from atlas.cli import emulators, local
from atlas.outside.sqlite.journal import LOCK_WAIT_SECONDS
from atlas.server.rlimits import DESCRIPTORS_MAX
from atlas.service.cgroup import SERVICE_BYTES
from atlas.settings import NAMES, Settings, load, require_auth0_and_foundry
from tests.ship import files
from tests.ship.files import (
    COMPOSE,
    CONFIG,
    CONTAINER,
    DRAIN_SECONDS_MAX,
    ENVIRONMENTS,
    HOME,
    OURS,
    POD,
    RENDER,
    ROOT,
    STATEFUL,
    UNIT,
    mebibytes,
    seconds,
)
from tests.support.environments import ENOUGH

OLD = {"AUTH0_DOMAIN", "AUTH0_AUDIENCE", "FOUNDRY_HOST", "FOUNDRY_CLIENT_ID"}
OLD |= {"FOUNDRY_CLIENT_SECRET"}
SECRETS = {"FOUNDRY_CLIENT_SECRET", "ATLAS_JOURNAL_KEY", "ATLAS_OPERATOR_TOKEN"}
JOURNAL = f"sqlite:///{HOME}/journal.db"
KEY = base64.b64encode(bytes(32)).decode()
IMAGE = (ROOT / "Containerfile").read_text(encoding="utf-8")
FILLED = ENOUGH | {"ATLAS_JOURNAL_KEY": KEY, "ATLAS_OPERATOR_TOKEN": "a-token"}
IN_THE_IMAGE = files.assignments(
    "\n".join(re.findall(r"\b((?:ATLAS|SQLITE)_\w+=\S+)", IMAGE.partition("ENTRYPOINT")[0]))
)
everywhere = pytest.mark.parametrize("where", ENVIRONMENTS)


@everywhere
def test_every_variable_is_a_setting(where):
    assert ENVIRONMENTS[where].keys() - files.NOT_OURS <= NAMES.keys()


@everywhere
def test_what_the_old_service_was_told_has_its_place(where):
    assert ENVIRONMENTS[where].keys() >= OLD


@everywhere
def test_with_what_must_be_filled_in_it_starts(where):
    environ = IN_THE_IMAGE | ENVIRONMENTS[where] | FILLED

    settings = load(b"", environ)

    require_auth0_and_foundry(settings)
    assert settings.edge.port == Settings().edge.port
    assert settings.journal.url == JOURNAL


@everywhere
def test_no_secret_is_written_down(where):
    values = {ENVIRONMENTS[where].get(name, "") for name in SECRETS}

    assert all(re.fullmatch(r"|<[a-z0-9 ,A-Z]+>|\$\{\w+:\?[^}]+\}", value) for value in values)


def test_what_is_accepted_lies_on_a_volume_everywhere():
    mounts = {each["name"]: each["mountPath"] for each in CONTAINER["volumeMounts"]}

    assert IN_THE_IMAGE["ATLAS_JOURNAL"] == JOURNAL
    assert ENVIRONMENTS["systemd"]["ATLAS_JOURNAL"] == JOURNAL
    assert RENDER["disk"]["mountPath"] == HOME
    assert f"journal:{HOME}" in OURS["volumes"]
    assert "journal" in COMPOSE["volumes"]
    assert mounts["journal"] == HOME
    assert UNIT.one("Service", "StateDirectory") == HOME.rpartition("/")[2]
    assert UNIT.one("Service", "WorkingDirectory") == HOME


def test_a_journal_is_written_anew_where_there_is_room():
    assert IN_THE_IMAGE["SQLITE_TMPDIR"] == HOME
    assert ENVIRONMENTS["systemd"]["SQLITE_TMPDIR"] == HOME


def test_a_disk_holds_a_full_journal_and_another():
    (claim,) = STATEFUL["spec"]["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    bounds = Settings().journal

    assert size == f"{RENDER['disk']['sizeGB']}Gi"
    assert RENDER["disk"]["sizeGB"] * 1e9 > 2 * bounds.bytes_max + bounds.free_bytes_min


def test_who_is_told_to_end_has_the_time_and_the_next_one_the_patience():
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    graces = {
        "render": RENDER["maxShutdownDelaySeconds"],
        "compose": seconds(OURS["stop_grace_period"]),
        "kubernetes": POD["terminationGracePeriodSeconds"] - before,
        "systemd": seconds(UNIT.one("Service", "TimeoutStopSec")),
    }

    assert all(DRAIN_SECONDS_MAX + 2 <= grace <= LOCK_WAIT_SECONDS for grace in graces.values()), (
        graces
    )


def test_memory_is_enough_for_the_service_and_nothing_is_swapped():
    limits = {
        "compose": OURS["mem_limit"],
        "kubernetes": CONTAINER["resources"]["limits"]["memory"],
        "systemd": UNIT.one("Service", "MemoryMax"),
    }

    assert {mebibytes(each) for each in limits.values()} == {256}
    assert SERVICE_BYTES <= 256 * 1024 * 1024  # as in the image tests: no workers
    assert OURS["memswap_limit"] == OURS["mem_limit"]
    assert UNIT.one("Service", "MemorySwapMax") == "0"


def test_there_are_descriptors_for_as_many_as_atlas_asks_for():
    assert OURS["ulimits"]["nofile"] == DESCRIPTORS_MAX
    assert UNIT.one("Service", "LimitNOFILE") == str(DESCRIPTORS_MAX)


def test_one_process_owns_the_journal():
    assert RENDER["numInstances"] == 1
    assert STATEFUL["spec"]["replicas"] == 1
    assert "deploy" not in OURS


def test_render_builds_our_image_and_asks_whether_the_loop_turns():
    assert (RENDER["type"], RENDER["runtime"]) == ("web", "docker")
    assert (ROOT / RENDER["dockerfilePath"]).is_file()
    assert RENDER["healthCheckPath"] == "/health/live"
    assert all(list(ROOT.glob(each)) for each in RENDER["buildFilter"]["paths"])


def test_render_asks_for_what_is_secret_or_makes_it():
    variables = {each["key"]: each for each in RENDER["envVars"]}

    assert variables["FOUNDRY_CLIENT_SECRET"]["sync"] is False
    assert variables["ATLAS_JOURNAL_KEY"]["generateValue"] is True  # 32 bytes in base64


def test_the_user_is_that_of_the_image():
    (user,) = re.findall(r"(?m)^ARG RUN_AS=([0-9]+):[0-9]+$", IMAGE)
    context = POD["securityContext"]

    assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [int(user)] * 3
    assert "user" not in OURS


def test_local_settings_lead_to_the_stand_ins():
    settings = load((CONFIG / "local.toml").read_bytes(), {})
    beside = local.build_local_settings(
        Settings(), local.Ports(8080, 8081, 8082, 8083), emulators.STATE
    )

    require_auth0_and_foundry(settings)
    assert settings.auth0 == beside.auth0
    assert settings.foundry.host == beside.foundry.host
    assert settings.foundry.oauth_token_url == beside.foundry.oauth_token_url
    assert (settings.foundry.client_id, settings.foundry.client_secret) == emulators.CLIENT
    assert settings.edge.port not in {8080, 8081, 8082, 8083}
    assert settings.journal.path not in {beside.journal.path, Settings().journal.path}
    assert not settings.foundry.sole_writer
