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
    COMPOSE_REPLICAS,
    CONFIG,
    CONTAINER,
    DRAIN_SECONDS_MAX,
    ENVIRONMENTS,
    HOME,
    OURS,
    POD,
    PODS,
    RENDER,
    RENDER_REPLICAS,
    REPLICAS,
    ROOT,
    SECRET_FILES,
    SHARED_ENVIRONMENTS,
    STATEFUL,
    UNIT,
    mebibytes,
    read,
    seconds,
)
from tests.support.environments import ENOUGH

OLD = {"AUTH0_DOMAIN", "AUTH0_AUDIENCE", "FOUNDRY_HOST", "FOUNDRY_CLIENT_ID"}
OLD |= {"FOUNDRY_CLIENT_SECRET"}
SECRETS = {"FOUNDRY_CLIENT_SECRET", "ATLAS_JOURNAL_KEY", "ATLAS_OPERATOR_TOKEN"}
FILES = {f"{name}_FILE" for name in SECRETS}
JOURNAL = f"sqlite:///{HOME}/journal.db"
KEY = base64.b64encode(bytes(32)).decode()
IMAGE = (ROOT / "Containerfile").read_text(encoding="utf-8")
FILLED = ENOUGH | {"ATLAS_JOURNAL_KEY": KEY, "ATLAS_OPERATOR_TOKEN": "a-token"}
IN_THE_IMAGE = files.assignments(
    "\n".join(re.findall(r"\b((?:ATLAS|SQLITE)_\w+=\S+)", IMAGE.partition("ENTRYPOINT")[0]))
)
ALL_ENVIRONMENTS = ENVIRONMENTS | SHARED_ENVIRONMENTS
everywhere = pytest.mark.parametrize("where", ALL_ENVIRONMENTS)


def list_settings(where: str) -> set[str]:
    """Return the settings of an environment, also those whose value is in a file."""
    return {name.removesuffix("_FILE") for name in ALL_ENVIRONMENTS[where]}


def fill_in(where: str) -> dict[str, str]:
    """Return an environment in which everything is filled in, with values in place of files."""
    here = ALL_ENVIRONMENTS[where].items()
    return IN_THE_IMAGE | {name: value for name, value in here if name not in FILES} | FILLED


@everywhere
def test_every_variable_is_a_setting(where):
    assert list_settings(where) - files.NOT_OURS <= NAMES.keys()


@everywhere
def test_what_the_old_service_was_told_has_its_place(where):
    assert list_settings(where) >= OLD


@pytest.mark.parametrize("where", ENVIRONMENTS)
def test_with_what_must_be_filled_in_it_starts(where):
    settings = load(b"", fill_in(where))

    require_auth0_and_foundry(settings)
    assert settings.edge.port == Settings().edge.port
    assert settings.journal.url == JOURNAL


@pytest.mark.parametrize("where", SHARED_ENVIRONMENTS)
def test_with_a_database_it_starts_as_one_of_several_replicas(where):
    environ = fill_in(where)
    journal = re.sub(r"\$\{[^}]*\}|\$\(\w+\)", "password", environ["ATLAS_JOURNAL"])
    environ["ATLAS_JOURNAL"] = journal or "postgresql://atlas:password@of-render/atlas"

    settings = load(b"", environ)

    require_auth0_and_foundry(settings)
    assert settings.edge.port == Settings().edge.port
    assert settings.journal.is_shared
    assert settings.journal.keys


@everywhere
def test_no_secret_is_written_down(where):
    values = {ALL_ENVIRONMENTS[where].get(name, "") for name in SECRETS}

    assert all(re.fullmatch(r"|<[a-z0-9 ,A-Z]+>|\$\{\w+:\?[^}]+\}", value) for value in values)


def files_in(where: str) -> dict[str, str]:
    """Return the files that the secrets are read from."""
    here = ALL_ENVIRONMENTS[where]
    return {name: value for name, value in here.items() if name in FILES}


@pytest.mark.parametrize("service", [OURS, *REPLICAS], ids=lambda one: one["hostname"])
def test_compose_mounts_each_secret_as_a_file_where_nothing_is_committed(service):
    where = "compose" if service is OURS else "compose-replicas"
    sources = (COMPOSE if service is OURS else read("compose-replicas.yaml"))["secrets"]

    assert service["secrets"] == SECRET_FILES
    assert sorted(files_in(where).values()) == [f"/run/secrets/{each}" for each in SECRET_FILES]
    assert sources == {each: {"file": f"../var/secrets/{each}"} for each in SECRET_FILES}
    assert service["env_file"].startswith("../var/")
    assert "/var/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("which", PODS)
def test_kubernetes_mounts_each_secret_as_a_file(which):
    pod, where = PODS[which], "kubernetes" if which == "one replica" else "kubernetes-replicas"
    (container,) = pod["containers"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "secrets"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
    place = mount["mountPath"]

    assert mount["readOnly"]
    assert volume["secret"]["secretName"] == files.SECRET["metadata"]["name"]
    assert sorted(files.SECRET["stringData"]) == SECRET_FILES
    assert sorted(files_in(where).values()) == [f"{place}/{each}" for each in SECRET_FILES]
    name = files.CONFIG_MAP["metadata"]["name"]
    assert container["envFrom"] == [{"configMapRef": {"name": name}}]
    assert not SECRETS & files.CONFIG_MAP["data"].keys()


def test_systemd_loads_each_secret_as_a_credential():
    """The operator listener needs no token there, because it is on a loopback address."""
    loaded = dict(each.split(":") for each in UNIT.all("Service", "LoadCredential"))

    assert sorted(loaded) == SECRET_FILES[:2]
    assert all(path == f"/etc/atlas/secrets/{name}" for name, path in loaded.items())
    assert {each.removeprefix("%d/") for each in files_in("systemd").values()} == loaded.keys()
    assert "ATLAS_OPERATOR_LISTEN" not in ENVIRONMENTS["systemd"]


def test_the_example_names_the_file_of_each_secret():
    text = (CONFIG / "atlas.env.example").read_text(encoding="utf-8")

    assert sorted(re.findall(r"> ([a-z-]+)$", text, re.MULTILINE)) == SECRET_FILES


@pytest.mark.parametrize("service", [*COMPOSE["services"].values(), *COMPOSE_REPLICAS.values()])
def test_the_log_of_a_container_does_not_fill_the_disk(service):
    logging = service["logging"]

    assert logging["driver"] == "json-file"
    assert mebibytes(logging["options"]["max-size"]) * int(logging["options"]["max-file"]) == 100


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
        "render-replicas": RENDER_REPLICAS["services"][0]["maxShutdownDelaySeconds"],
        "compose": seconds(OURS["stop_grace_period"]),
        "compose-replicas": seconds(REPLICAS[0]["stop_grace_period"]),
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


SAME = ("build", "image", "env_file", "restart", "read_only", "tmpfs", "cap_drop")
SAME += (
    "security_opt",
    "pids_limit",
    "ulimits",
    "mem_limit",
    "memswap_limit",
    "secrets",
    "logging",
)


def test_replicas_of_compose_are_the_same_service_without_its_disk():
    for number, replica in enumerate(REPLICAS, 1):
        name = f"replica-{number}"
        assert {key: replica[key] for key in SAME} == {key: OURS[key] for key in SAME}
        assert "volumes" not in replica
        assert "ports" not in replica
        assert replica["hostname"] == name
        assert replica["environment"]["ATLAS_OPERATOR_LISTEN"] == f"{name}:9464"
        assert replica["healthcheck"]["test"] == ["CMD", "atlas", "health", "--ready"]


def test_the_database_of_compose_is_reached_with_its_password_and_keeps_its_data():
    database, caddy = COMPOSE_REPLICAS["database"], COMPOSE_REPLICAS["caddy"]
    url = REPLICAS[0]["environment"]["ATLAS_JOURNAL"]
    password = database["environment"]["POSTGRES_PASSWORD"]

    assert url == f"postgresql://atlas:{password}@database/atlas"
    assert "--data-checksums" in database["environment"]["POSTGRES_INITDB_ARGS"]
    assert database["volumes"] == ["database:/var/lib/postgresql"]
    assert "ports" not in database
    assert caddy["environment"]["UPSTREAMS"].split() == ["replica-1:8080", "replica-2:8080"]


def test_replicas_of_render_have_a_database_that_only_they_reach():
    (service,), (database,) = RENDER_REPLICAS["services"], RENDER_REPLICAS["databases"]
    variables = {each["key"]: each for each in service["envVars"]}
    same = ("type", "runtime", "dockerfilePath", "healthCheckPath", "buildFilter", "plan")
    size = database["diskSizeGB"]

    assert {key: service[key] for key in same} == {key: RENDER[key] for key in same}
    assert service["numInstances"] > 1
    assert "disk" not in service
    assert variables["ATLAS_JOURNAL"]["fromDatabase"] == {
        "name": database["name"],
        "property": "connectionString",
    }
    assert variables["ATLAS_JOURNAL_KEY"]["generateValue"] is True
    assert variables["FOUNDRY_CLIENT_SECRET"]["sync"] is False
    assert database["highAvailability"] == {"enabled": True}
    assert database["ipAllowList"] == []
    assert size * 1e9 > 2 * load(b"", {"ATLAS_JOURNAL": "postgresql://a@b/c"}).journal.bytes_max


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
