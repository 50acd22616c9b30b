"""The files for Compose, Prometheus and Grafana are valid and refer to each other correctly."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.trial_environment import find_free_port
from tests.conftest import needs
from tests.ship.files import COMPOSE, CONFIG, OURS, ROOT, read
from tests.support.monitoring import DASHBOARD, RULES
from tests.support.processes import HOST, SECONDS, SECONDS_OF_ALL, fetched, killed_at_last, local

TOKEN = "of-an-operator"
SERVICES = COMPOSE["services"]
PROMETHEUS = read("prometheus/prometheus.yaml")
(JOB,) = PROMETHEUS["scrape_configs"]
(SOURCE,) = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
(PROVIDER,) = read("grafana/provisioning/dashboards/atlas.yaml")["providers"]


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    """Validate a file with the schema of the Compose specification."""
    command = [Path(sys.executable).with_name("check-jsonschema")]
    command += ["--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_compose_knows_every_word(tmp_path):
    text = (CONFIG / "compose.yaml").read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("stop_grace_period", "stop_grace"))

    assert validate(CONFIG / "compose.yaml").returncode == 0
    assert validate(CONFIG / "compose-replicas.yaml").returncode == 0
    assert "stop_grace" in validate(tmp_path / "wrong.yaml").stdout


@pytest.mark.slow
def test_prometheus_takes_its_file():
    needs("promtool", "--version")
    check = ["promtool", "check", "config", "--syntax-only", CONFIG / "prometheus/prometheus.yaml"]
    subprocess.run(check, check=True, capture_output=True)
    rules = ["promtool", "check", "rules", "--lint=all", "--lint-fatal"]
    rules += [CONFIG / "prometheus" / "alerts.yaml"]
    subprocess.run(rules, check=True, capture_output=True)


@pytest.mark.slow
def test_prometheus_measures_what_shows_itself_to_a_token_only(tmp_path):
    needs("prometheus", "--version")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "atlas.toml").write_text(f'[operator]\ntoken = "{TOKEN}"\n')
    with (
        local(tmp_path, "--config", tmp_path / "atlas.toml") as atlas,
        run_prometheus(tmp_path, atlas.port + 3) as prometheus,
    ):
        wait_for_text(f"{prometheus}/api/v1/query?query=atlas_info", "version")
        alerts = fetched(f"{prometheus}/api/v1/rules").decode()

    assert all(f'"{rule["alert"]}"' in alerts for rule in RULES)


@contextmanager
def run_prometheus(folder: Path, operator: int) -> Iterator[str]:
    """Run Prometheus with its shipped files, adapted to this machine, scraping every second."""
    text = (CONFIG / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
    text = text.replace("/run/secrets/operator-token", str(folder / "token"))
    text = text.replace("atlas:9464", f"{HOST}:{operator}").replace("15s", "1s")
    (folder / "prometheus.yaml").write_text(text)
    shutil.copy(CONFIG / "prometheus" / "alerts.yaml", folder)
    port = find_free_port()
    options = {
        "config.file": folder / "prometheus.yaml",
        "storage.tsdb.path": folder / "db",
        "web.listen-address": f"{HOST}:{port}",
    }
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log-of-it").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    with killed_at_last(process, SECONDS_OF_ALL):
        yield f"http://{HOST}:{port}"


def wait_for_text(url: str, word: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(OSError):
            if word in fetched(url).decode():
                return
        assert time.monotonic() < deadline, f"{url} never says {word}"
        time.sleep(0.05)


def mounts(service):
    """Return mount point -> path in this repository, of the read-only mounts of a service."""
    found = [each.split(":") for each in SERVICES[service]["volumes"] if each.startswith(".")]
    return {place: (CONFIG / ours).resolve() for ours, place, mode in found if mode == "ro"}


def test_atlas_may_do_nothing_but_its_work():
    assert OURS["read_only"]
    assert OURS["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in OURS["security_opt"]
    assert OURS["build"] == {"context": "..", "dockerfile": "Containerfile"}
    assert (CONFIG / OURS["build"]["context"] / "Containerfile").is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_reached_from_outside_this_machine(service):
    assert all(each.startswith("127.0.0.1:") for each in SERVICES[service]["ports"])


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_who_watches_runs_only_when_asked_at_a_version(service):
    assert SERVICES[service]["profiles"] == ["watch"]
    assert re.search(r":v?[0-9]+\.[0-9]+\.[0-9]+$", SERVICES[service]["image"])
    assert all(each.exists() for each in mounts(service).values())


def test_prometheus_asks_the_operator_listener_by_the_one_name_that_it_answers_to():
    (target,) = JOB["static_configs"][0]["targets"]

    assert target == OURS["environment"]["ATLAS_OPERATOR_LISTEN"]
    assert target.partition(":")[0] == OURS["hostname"]
    assert OURS["hostname"] in SERVICES  # and the name resolves to it
    assert JOB.get("metrics_path", "/metrics") == "/metrics"


def test_prometheus_shows_the_operator_token():
    (secret,) = SERVICES["prometheus"]["secrets"]
    file = JOB["authorization"]["credentials_file"]

    assert file == f"/run/secrets/{secret}"
    assert OURS["environment"]["ATLAS_OPERATOR_TOKEN_FILE"] == file


def test_prometheus_has_its_file_and_the_alerts():
    ((folder, ours),) = mounts("prometheus").items()
    place = f"--config.file={folder}/prometheus.yaml"

    assert place in SERVICES["prometheus"]["command"]
    assert ours == CONFIG / "prometheus"
    assert all((ours / each).is_file() for each in PROMETHEUS["rule_files"])


def test_the_alerts_ask_for_the_job_that_there_is():
    asked = {job for rule in RULES for job in re.findall(r'job="(\w+)"', rule["expr"])}

    assert asked == {JOB["job_name"]}


def test_grafana_shows_the_dashboard_and_asks_prometheus():
    placed = mounts("grafana")
    folder = PROVIDER["options"]["path"]
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource"]

    assert placed[f"{folder}/atlas.json"] == CONFIG / "grafana" / "atlas.json"
    assert placed["/etc/grafana/provisioning"] == CONFIG / "grafana" / "provisioning"
    assert SOURCE["type"] == variable["query"]
    assert SOURCE["isDefault"]
    assert SOURCE["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_the_variables_lie_where_nothing_is_committed():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    assert OURS["env_file"] == "../var/atlas.env"
    assert "/var/" in ignored
