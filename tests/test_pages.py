"""The pages fit their readers: short, linked, and in step with the code."""

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from atlas.cli.main import COMMANDS, Later, app
from atlas.core import errors, events
from atlas.core.rows import COLUMNS
from atlas.edge.openapi import description
from atlas.outside import log
from atlas.settings import Settings
from atlas.settings.reading import NAMES
from tests.bench.__main__ import END
from tests.conftest import Life

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
NOT_PAGES = {"var", "dist", "build"}
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_PAGES for part in page.relative_to(ROOT).parts)
)
SOURCES = sorted((ROOT / "atlas").rglob("*.py"))
PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
DEFAULTS_IN_WORDS = {
    "AUTH0_ISSUER",
    "FOUNDRY_OAUTH_TOKEN_URL",
    "ATLAS_JOURNAL_KEY",
    "ATLAS_WORKERS",
}
NEEDS_NOBODY = {"HealthKit raw export failed"}  # clients retry: see the runbook, Overload


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@cache
def text_of(page: Path | str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"(?ms)^```.*?^```$", "", text_of(page))


def links_of(page: Path) -> list[tuple[Path, str]]:
    """The file and the anchor of each link to a page or file of the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    parts = (link.partition("#") for link in found if not link.startswith("https://"))
    return [((page.parent / file).resolve() if file else page, at) for file, _, at in parts]


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", prose_of(page))
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def section_of(page: str, heading: str) -> str:
    return re.split(r"(?m)^#+ ", text_of(page).partition(f" {heading}\n")[2])[0]


def cells_of(text: str) -> list[list[str]]:
    """The rows of all tables, without their heads."""
    rows = re.findall(r"(?m)^\| ?(.*?) ?\|$", re.sub(r"(?m)^\|.*\n\|[-|]+\|$", "", text))
    return [re.split(r" ?(?<!\\)\| ?", row) for row in rows]


def codes_in(text: str) -> list[str]:
    return [each.replace("\\|", "|") for each in re.findall(r"`([^`]+)`", text)]


# the shape


def test_the_front_door_is_short():
    assert len(text_of(README).splitlines()) <= 150


@every_page
def test_a_page_is_read_in_one_sitting(page):
    assert len(text_of(page).splitlines()) <= 400


@every_page
def test_a_link_leads_somewhere(page):
    for file, anchor in links_of(page):
        assert file.is_relative_to(ROOT)
        assert file.exists(), f"{file} is linked, and is not there"
        assert not anchor or anchor in anchors_of(file), f"{name_of(file)}#{anchor}"


def test_every_page_can_be_reached_from_the_front_door():
    reached, ahead = set(), [README]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [file for file, _ in links_of(page)]
    assert reached == set(PAGES)


def test_a_link_of_the_checks_themselves_is_found():
    assert len(links_of(README)) > 20
    assert "the-promise" in anchors_of(README)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_message_refers_to_a_page_that_the_image_does_not_have(file):
    tree = ast.parse(text_of(file))
    texts = {node for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    if "cli" not in file.parts:  # there, docstrings are what --help prints
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
        texts -= {node.body[0].value for node in nodes if ast.get_docstring(node) is not None}
    said = [text.value for text in texts if isinstance(text.value, str)]
    assert not [text for text in said if "README" in text or ".md" in text.split()]


# commands


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words begin with, and the rest of them."""
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        found = command.commands.get(words[0])
        assert found is not None, f"there is no command {words[0]}"
        command = found.command() if isinstance(found, Later) else found
        words = words[1:]
    return command, words


def commands_in(page: Path) -> list[str]:
    """What begins with `atlas`, between backticks or as a line of a shell."""
    lines = re.findall(r"(?m)^(?:\S*/|podman exec atlas )?(atlas [a-z].*)$", text_of(page))
    codes = [each for each in codes_in(prose_of(page)) if re.match(r"atlas [a-z]", each)]
    blocks = "\n".join(re.findall(r"(?ms)^```sh$(.*?)^```$", text_of(page)))
    return codes + [line for line in lines if line in blocks]


@pytest.mark.parametrize(
    "words", sorted({each for page in PAGES for each in commands_in(page)}), ids=str
)
def test_a_command_on_a_page_is_one_of_atlas_with_these_options(words):
    command, rest = command_of(words.split()[1:])
    known = set(chain.from_iterable(each.opts for each in command.params)) | {"--help"}
    options = {each for each in rest if re.match(r"--\w", each)}
    assert options <= known


def test_commands_are_found_where_they_are():
    found = {each for page in PAGES for each in commands_in(page)}
    assert {"atlas serve", "atlas exports replay --all", "atlas diagnose"} <= found
    assert "atlas import export.zip --dry-run" in found
    with pytest.raises(AssertionError):
        command_of(["nothing"])


def test_the_page_of_the_command_line_has_every_command_and_no_other():
    rows = cells_of(text_of("atlas/cli/README.md"))
    listed = [re.sub(r"( \[?[A-Z].*| --.*)", "", codes_in(cell)[0]) for cell, *_ in rows]
    groups = {name: command_of([name])[0] for name, *_ in COMMANDS}
    expected = {
        f"atlas {name} {below}" if below else f"atlas {name}"
        for name, command in groups.items()
        for below in getattr(command, "commands", [""])
    }
    assert sorted(listed) == sorted(expected)


def test_the_page_of_the_tests_has_every_verb_of_the_workshop_and_no_other():
    recipes = re.sub(r"(?m)^\[private\]\n.*$", "", text_of("justfile"))
    verbs = set(re.findall(r"(?m)^([a-z][\w-]*)(?: [^:=\n]*)?:(?!=)", recipes))
    table = section_of("tests/README.md", "Commands")
    listed = set(re.findall(r"`just ([\w-]+)", table))
    assert listed == verbs


@every_page
def test_a_verb_on_a_page_is_one_of_the_workshop(page):
    named = {code.split()[1] for code in codes_in(prose_of(page)) if code.startswith("just ")}
    assert named <= set(re.findall(r"(?m)^([a-z][\w-]*)", text_of("justfile")))


@pytest.mark.parametrize(("marker", "end"), [("run", "/atlas local"), ("test", "/just test")])
def test_a_command_of_the_front_door_sets_everything_up(marker, end):
    (command,) = re.findall(rf"(?m)^<!-- {marker} -->\n```sh\n(.+)\n```$", text_of(README))
    assert command.startswith("python3 -m venv .venv && ")
    assert command.endswith(end)
    for file in re.findall(r"-r (\S+)", command):
        assert (ROOT / file).exists()


def test_the_tables_that_a_bench_writes_have_their_place():
    (names,) = re.findall(r"`just bench --into (?:\S+) ([\w ]+)`", text_of("tests/bench/README.md"))
    (page,) = re.findall(r"`just bench --into (\S+) ", text_of("tests/bench/README.md"))
    for name in names.split():
        assert (ROOT / "tests/bench" / f"{name}.py").exists()
        rest = text_of(page).partition(f"<!-- bench {name} -->\n")[2]
        assert END in rest.partition("<!-- bench ")[0]


# the contract


def kinds(kind: type[errors.AtlasError] = errors.AtlasError) -> list[type[errors.AtlasError]]:
    """Every error that has a code of its own."""
    found = [each for below in kind.__subclasses__() for each in kinds(below)]
    return [kind, *found] if "code" in vars(kind) else found


def test_the_contract_has_every_code_and_no_other():
    rows = cells_of(section_of("atlas/edge/README.md", "Errors"))
    listed = [
        (int(status), code)
        for status, codes in rows
        for code in codes_in(codes)
        if re.fullmatch(r"[A-Z_]+", code) and not code.startswith("ATLAS_")
    ]
    assert sorted(listed) == sorted((kind.status, kind.code) for kind in kinds())


def test_the_contract_has_every_route_and_no_other():
    rows = cells_of(text_of("atlas/edge/README.md").partition("\n## ")[0])
    listed = {tuple(code.partition("?")[0].split(" ")) for row in rows for code in codes_in(row[0])}
    described = description("0")["paths"]
    methods = {"get", "post"}
    expected = {
        (method.upper(), path) for path, by in described.items() for method in methods & by.keys()
    }
    assert listed == expected | {("GET", "/openapi.json")}


@pytest.mark.parametrize("page", ["README.md", "atlas/edge/README.md"])
def test_nothing_is_to_be_sent_again_but_what_is_retryable(page):
    """Of 4xx, a page names those that may be sent again, and says that no other may."""
    retryable = {kind.status for kind in kinds() if kind.retryable}
    if page == "README.md":
        (row,) = [row for row in cells_of(text_of(page)) if "Send the same request again" in row[1]]
        named = {int(code) for code in codes_in(row[0])} | (
            {500, 503} if "5xx" in row[0] else set()
        )
        (rejected,) = [row for row in cells_of(text_of(page)) if row[0] == "any other 4xx"]
        assert "cannot succeed" in rejected[1]
    else:
        (said,) = re.findall(r"(?s)4xx means that .*?except (.*?)\. Do not send", text_of(page))
        named = {int(each) for each in re.findall(r"\b4\d\d\b", said)} | {500, 503}
    assert named == retryable


def test_the_columns_are_listed_in_the_order_of_the_files():
    rows = cells_of(section_of("atlas/core/README.md", "The row"))
    assert [codes_in(column)[0] for column, _ in rows] == list(COLUMNS)


# settings


def settings_listed() -> dict[str, str]:
    rows = cells_of(section_of("config/README.md", "Settings"))
    return {
        name: default for cell, default, *_ in (r for r in rows if len(r) == 3)
        for name in codes_in(cell)
    }  # fmt: skip


def test_the_table_has_every_variable_and_no_other():
    assert settings_listed().keys() == NAMES.keys() | PROXIES


@pytest.mark.parametrize("name", sorted(NAMES.keys() - DEFAULTS_IN_WORDS))
def test_a_default_is_that_of_the_code(name):
    section, _, key = NAMES[name].partition(".")
    default = msgspec.to_builtins(Settings())[section][key]
    (said,) = codes_in(settings_listed()[name]) or [""]
    if isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, int | float):
        assert float(said) == default
    else:
        assert said == (default or "")


def test_exit_codes_are_those_of_the_code():
    rows = cells_of(section_of("config/README.md", "Settings"))
    codes = {code: meaning for code, meaning in (row for row in rows if len(row) == 2)}
    assert "another process holds the journal" in codes[str(errors.JournalHeld.exit_code)]
    assert "setting" in codes[str(errors.BadSetting.exit_code)]
    assert "failure" in codes[str(errors.CannotStart.exit_code)]


# operations


def test_every_message_on_a_page_is_one_of_the_log():
    source = text_of("atlas/outside/log.py")
    operations = section_of("config/operations.md", "The log")
    rows = cells_of(section_of("config/runbook.md", "Log messages that need a person"))
    messages = [code for code in codes_in(operations) if " " in code]
    messages += [codes_in(row[0])[0] for row in rows]
    assert len(messages) > 15
    made = {
        log.sentence(events.RequestRead("", "", 1, 1, is_batch))[1] for is_batch in (True, False)
    }
    assert not [each for each in messages if f'"{each}"' not in source and each not in made]


def test_every_error_in_the_log_is_in_the_runbook():
    rows = cells_of(section_of("config/runbook.md", "Log messages that need a person"))
    listed = {codes_in(row[0])[0] for row in rows}
    needing = {message for level, message in log.SENTENCES.values() if level == "error"}
    assert needing - NEEDS_NOBODY <= listed
    assert {log.SENTENCES[each][1] for each in (events.ExportFailed, events.ClientStuck)} <= listed


async def test_the_operator_routes_are_listed_all_and_no_other(tmp_path):
    rows = cells_of(section_of("config/operations.md", "The operator listener"))
    listed = {tuple(code.partition("?")[0].split(" ")) for row in rows for code in codes_in(row[0])}
    async with Life(tmp_path / "journal").running() as flow:
        routes = [
            (method, re.sub(r":\w+}", "}", route.path))
            for route in flow.service.operator.routes
            for method in route.methods - {"HEAD"}
            if not re.search(r"\.(js|css|svg)$", route.path)  # parts of the page
        ]
    assert listed == set(routes)


def test_the_glossary_says_each_word_once():
    words = [word for word, _ in cells_of(section_of("atlas/README.md", "Glossary"))]
    each = [word for cell in words for word in cell.split(", ")]
    assert words == sorted(words)
    assert len(each) == len(set(each))
