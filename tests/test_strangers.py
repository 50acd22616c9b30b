"""The files for people and programs that see this repository for the first time."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.pages import ROOT, text_of

BIN = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
RENOVATE = json.loads(text_of(".github/renovate.json"))
CONTRIBUTING = text_of("CONTRIBUTING.md")
COMMANDS = "\n".join(re.findall(r"(?ms)^```sh$(.*?)^```$", CONTRIBUTING))
LOCKED = sorted((ROOT / "config").glob("requirements*.txt"))
HIDDEN = {".ci", ".github"}
NOT_OURS = {"var", "dist", "build", "__pycache__", ".git"}
SOURCES = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".service", ".example", ".js", ""}
SCHEMAS = {
    "github-workflows": [".github/workflows/check.yml"],
    "github-issue-forms": [str(each.relative_to(ROOT)) for each in FORMS],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "renovate": [".github/renovate.json"],
}


def list_files():
    """Yield the files of the repository by their path, without what tools leave behind."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        is_ours = parts[0] in HIDDEN or len(parts) == 1 or not parts[0].startswith(".")
        if is_ours and not NOT_OURS & {*parts} and path.is_file():
            yield "/".join(parts)


FILES = list(list_files())


def parse(file):
    return yaml.safe_load(text_of(file))


# what a host of repositories reads


def validate(schema, *files):
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_is_valid_by_its_schema_and_a_wrong_one_is_noticed(schema, tmp_path):
    files = SCHEMAS[schema]
    found = validate(schema, *files)
    wrong = tmp_path / files[0].rpartition("/")[2]
    content = parse(files[0])
    wrong.write_text(json.dumps(dict.fromkeys(content, 7)))

    assert found.returncode == 0, found.stdout
    assert validate(schema, wrong).returncode != 0


def test_the_workflow_runs_the_checks_with_few_permissions_and_nothing_publishes():
    (workflow,) = [parse(each) for each in WORKFLOWS]
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]

    assert [command.split()[-1] for command in commands] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert workflow["concurrency"]["cancel-in-progress"]
    assert job["timeout-minutes"] == 90
    assert "secrets." not in text_of(WORKFLOWS[0])


def test_an_action_is_pinned_by_its_commit_with_its_version():
    used = re.findall(r"uses: (.+)", text_of(WORKFLOWS[0]))

    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each) for each in used)


def test_a_report_asks_for_what_helps_and_for_nobodys_data():
    (bug,) = [parse(each) for each in FORMS if each.stem == "bug"]
    fields = {field["id"]: field for field in bug["body"] if "id" in field}
    (promise,) = fields["checked"]["attributes"]["options"]

    assert "`atlas diagnose --json`" in fields["diagnosis"]["attributes"]["description"]
    assert promise["required"]
    assert {"health data", "token"} <= set(re.findall(r"health data|token", promise["label"]))
    assert "SECURITY.md" in parse(".github/ISSUE_TEMPLATE/config.yml")["contact_links"][0]["url"]


def test_the_repository_has_one_address():
    urls = re.compile(r"https://([\w.-]+(?:/[\w.-]+)+?)/blob/main/(\S+?)(?:#\S+)?\s")
    files = [file for file in FILES if file.startswith((".github/", "config/"))]
    texts = [text_of(file) for file in files if Path(file).suffix in SOURCES]
    found = {address for text in texts for address in urls.findall(text)}

    assert len({repository for repository, _ in found}) == 1
    assert {file for _, file in found} == {"SECURITY.md", "config/runbook.md"}
    assert all((ROOT / file).exists() for _, file in found)


# what a contributor reads


def test_a_contributor_sets_up_what_the_test_command_sets_up():
    (tested,) = re.findall(
        r"(?m)^(python3 -m venv .*) && \.venv/bin/just test$", text_of("README.md")
    )
    commands = re.findall(r"(?ms)^```sh$(.*?)^```$", CONTRIBUTING)[0].strip().splitlines()

    assert commands == [tested, ". .venv/bin/activate"]


def test_what_contributing_names_is_there():
    paths = set(
        re.findall(r"(?<![\w./])(?:config|tests|\.ci|\.github)(?:/[\w./-]+)?", CONTRIBUTING)
    )
    verbs = re.findall(r"(?m)^just ([a-z]+)", COMMANDS)
    ((file, word),) = re.findall(r"pytest (\S+) -k (\w+)", COMMANDS)

    assert {"config/requirements-dev.txt", "tests/test_flow.py", ".ci/run", ".github"} <= paths
    assert all((ROOT / path).exists() for path in paths)
    assert verbs
    assert all(re.search(rf"(?m)^{verb}(?: .*)?:", text_of("justfile")) for verb in verbs)
    assert re.search(rf"def test_\w*{word}", text_of(file))


def test_a_hook_runs_a_program_of_the_environment():
    (repository,) = parse(".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}

    assert repository["repo"] == "local"
    assert hooks.keys() == {"ruff", "ruff-format", "mypy", "secure"}
    for hook in hooks.values():
        program, *_ = hook["entry"].split()
        assert hook["language"] == "system"
        assert program.startswith(".venv/bin/")
        assert (BIN / Path(program).name).exists()
    assert hooks["secure"]["entry"].endswith("just secure")
    assert re.search(r"(?m)^secure:$", text_of("justfile"))


def test_an_editor_knows_the_form_of_a_file():
    settings = configparser.ConfigParser()
    settings.read_string("[top]\n" + text_of(".editorconfig"))

    assert settings["top"]["root"] == "true"
    assert settings["*"]["end_of_line"] == "lf"
    assert settings["*.py"]["max_line_length"] == "100"
    assert settings["Caddyfile"]["indent_style"] == "tab"
    assert "\t" in text_of("config/Caddyfile")


# what a program updates


@pytest.mark.parametrize("manager", RENOVATE["enabledManagers"])
def test_renovate_finds_the_files_of_each_manager(manager):
    for pattern in RENOVATE[manager]["managerFilePatterns"]:
        expression = re.compile(pattern.removeprefix("/").removesuffix("/"))
        assert [file for file in FILES if expression.search(file)], pattern


def test_renovate_updates_every_lock_file():
    (pattern,) = RENOVATE["pip-compile"]["managerFilePatterns"]
    assert len(LOCKED) > 4
    assert all(re.search(pattern[1:-1], f"config/{file.name}") for file in LOCKED)


# of `uv pip compile`, those that Renovate passes on: another one makes it leave the file alone
UNDERSTOOD = {
    "--constraints",
    "--extra",
    "--generate-hashes",
    "--no-strip-extras",
    "--output-file",
    "--python-version",
    "--universal",
}


@pytest.mark.parametrize("file", LOCKED, ids=lambda file: file.name)
def test_a_lock_file_says_how_it_was_made_as_renovate_reads_it(file):
    header = re.match(r"(?:#.*\n)+?#    uv pip compile (.+)\n", file.read_text(encoding="utf-8"))
    assert header is not None
    options = dict(word.partition("=")[::2] for word in header[1].split())

    assert options.keys() - UNDERSTOOD == {"pyproject.toml"}
    assert options["--output-file"] == f"config/{file.name}"


# Atlas is on no package index


def find_installs(text):
    """Return the commands of a text that install Atlas by its name."""
    by_name = r"\binstall\b[^\n|&;]*[\s'\"]atlas(?:-healthkit)?(?=[\s\[='\"`.,)]|$)"
    return re.findall(rf"(?m){by_name}|atlas-healthkit" + r"\[\w", text)


def test_nobody_is_told_to_install_atlas_from_an_index():
    """The changelog says what was so."""
    files = [file for file in FILES if Path(file).suffix in SOURCES]
    told = {file: find_installs(text_of(file)) for file in files if "corpus/" not in file}

    assert len(told) > 500
    assert {file: found for file, found in told.items() if found} == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip inst" + "all atlas",
        "pip " + "install 'atlas-health" + "kit'",
        "uv tool install --python 3.12 atlas-health" + "kit==1",
        "needs the extra: 'atlas-health" + "kit[otel]'",
    ],
)
def test_who_tells_so_is_noticed(text):
    assert find_installs(text)
