"""The folder listing is the architecture: imports, sizes, names and docstrings follow rules."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ATLAS = ROOT / "atlas"
FILES = sorted(ATLAS.rglob("*.py"))

# package: the packages of Atlas and the third-party packages that it may import
PACKAGES: dict[str, tuple[str, str]] = {
    "core": ("core", "msgspec pybase64"),
    "runtime": ("core", "anyio"),
    "computing": ("", "anyio"),
    "actors": ("core runtime", "anyio msgspec"),
    "replicas": ("core runtime", "anyio msgspec"),
    "edge": ("core runtime", "starlette anyio msgspec backports compression"),
    "outside/network": ("core", "aiohttp yarl"),  # shared: the reasons why a call fails
    "outside/auth0": ("core outside/network", "aiohttp anyio joserfc msgspec pybase64 yarl"),
    "outside/foundry": ("core outside/network", "aiohttp anyio authlib msgspec yarl"),
    # shared by both engines
    "outside/journal": ("core", "cryptography msgspec backports compression"),
    "outside/sqlite": ("core outside/journal", "anyio msgspec"),
    "outside/postgres": ("core outside/journal", "asyncpg msgspec"),
    "outside/public_endpoint": ("core outside/network", "aiohttp msgspec yarl"),
    "outside/log": ("core", "msgspec structlog"),
    "outside/metrics": ("core", "prometheus_client"),
    "outside/traces": ("core", "opentelemetry"),
    "outside/parquet": ("core", "msgspec pyarrow"),
    "local": ("", "aiohttp joserfc msgspec"),
    "settings": ("core", "msgspec"),
    "diagnose": ("core settings", "anyio msgspec"),  # ports only: it also runs inside a service
    "service": (
        "core runtime computing actors replicas edge outside diagnose settings",
        "anyio starlette",
    ),
    "apple": ("core", "msgspec"),
    "comparison": ("core", "msgspec"),
    "synthetic": ("core", "msgspec"),
    "client": ("core", "aiohttp anyio msgspec pybase64"),
    "server": ("core runtime computing service settings", "anyio httptools msgspec starlette"),
    "cli": (
        "core settings service server local client apple comparison synthetic",
        "aiohttp anyio msgspec rich typer yarl",
    ),
}
IMPURE_MODULES = {"asyncio", "logging", "os", "random", "socket", "sqlite3", "threading", "time"}
FILE_LINES_MAX, FUNCTION_LINES_MAX = 300, 60
VAGUE_MODULES = {"utils", "util", "helpers", "common", "manager", "base", "misc"}

WH_WORD = re.compile(r"(?i)(wh(at|o|om|ose|ich|ere|en|y|ether)(ever)?|how(ever)?)\b")
PREPOSITIONS = set(
    "about above after against among around as at before behind below beside between beyond by "
    "during for from in inside into near of off on onto out outside over since through to toward "
    "under until up upon via with within without".split()
)
PARTICIPLE = re.compile(r"[a-z]+(ed|ing)")
NOT_PARTICIPLES = {"feed", "shed"}  # verbs in the imperative that end like a participle
NAMED_TUPLE = {
    "_asdict",
    "_fields",
    "_replace",
}  # public in spite of the underscore, which avoids clashes


def package_of(file: Path) -> str:
    parts = file.relative_to(ATLAS).with_suffix("").parts
    return "/".join(parts[:2]) if parts[0] == "outside" and len(parts) > 1 else parts[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages_imported_by(file: Path) -> set[str]:
    """The packages of Atlas, and the single adapters, that a file imports from."""
    found = set()
    for name in imports(file):
        first, *rest = name.split(".")
        if first == "atlas" and rest and rest[0] != "__version__":
            found.add("/".join(rest[:2]) if rest[0] == "outside" else rest[0])
    return found


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lengths(file: Path) -> dict[str, int]:
    """The lines of each function."""
    return {each.name: (each.end_lineno or 0) - each.lineno + 1 for each in functions(file)}


def docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def path_of(file: Path) -> str:
    return str(file.relative_to(ATLAS))


every_file = pytest.mark.parametrize("file", FILES, ids=path_of)
every_file_of_a_package = pytest.mark.parametrize(
    "file", [file for file in FILES if package_of(file) in PACKAGES], ids=path_of
)


# --- imports ---


def test_every_package_has_its_rules():
    found = {package_of(file) for file in FILES} - {"__init__", "__main__", "outside/__init__"}
    assert found == set(PACKAGES)


@every_file_of_a_package
def test_a_file_imports_only_the_packages_that_its_own_may_import(file):
    package = package_of(file)
    allowed = set(PACKAGES[package][0].split()) | {package}
    imported = {
        each if each in allowed else each.split("/")[0] for each in packages_imported_by(file)
    }
    assert imported <= allowed


@every_file_of_a_package
def test_a_file_uses_only_the_libraries_of_its_package(file):
    libraries = {name.split(".")[0] for name in imports(file)} - sys.stdlib_module_names
    assert libraries - {"atlas"} <= set(PACKAGES[package_of(file)][1].split())


def test_actors_do_not_import_each_other():
    for file in (ATLAS / "actors").glob("*.py"):
        assert not {name for name in imports(file) if name.startswith("atlas.actors")}, file


def test_the_stages_are_listed_in_the_order_of_the_data():
    """The wiring starts each stage after the one that it sends to, so from last to first.

    The publisher of the stream is beside the flow: no stage sends to it.
    """
    stages = sorted({each.stem for each in (ATLAS / "actors").glob("[a-z]*")} - {"publish"})
    wiring = (ATLAS / "service" / "flow.py").read_text(encoding="utf-8")
    wiring = wiring[wiring.index("async def run_service") :]
    starts = {stage: f"{stage.title()}(" for stage in stages} | {"upload": "build_uploader("}
    assert sorted(stages, key=lambda stage: wiring.index(starts[stage]), reverse=True) == stages


@pytest.mark.parametrize(
    "file", sorted(each for name in ("core", "apple") for each in (ATLAS / name).rglob("*.py"))
)
def test_pure_packages_use_no_clock_no_disk_no_network_and_no_log(file):
    assert not {name.split(".")[0] for name in imports(file)} & IMPURE_MODULES
    assert ".now(" not in file.read_text(encoding="utf-8")


@every_file
def test_only_the_command_line_reads_the_environment(file):
    words = set(re.findall(r"[\w.]+", file.read_text(encoding="utf-8")))
    assert package_of(file) == "cli" or not {"os.environ", "getenv"} & words


@every_file
def test_a_file_uses_public_names_only(file):
    assert set(private_names(file)) == set()


def private_names(file: Path) -> Iterator[str]:
    """Private names that a file imports, or reads from anything but itself and its own classes."""
    for name in imports(file):
        if any(is_private(part) for part in name.split(".")):
            yield name
    nodes = [node for part in (tree(file), *quoted_annotations(file)) for node in ast.walk(part)]
    own = {"self", "cls"} | {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr"}:
            owner, name = map(ast.unparse, node.args[:2])
            if owner not in own and is_private(name.strip("'")):
                yield ast.unparse(node)


def quoted_annotations(file: Path) -> Iterator[ast.expr]:
    for node in ast.walk(tree(file)):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.Constant) and isinstance(found.value, str):
                yield ast.parse(found.value, mode="eval").body


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


# --- sizes ---


@every_file
def test_a_file_fits_a_few_screens_and_a_function_one(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX
    assert {name for name, lines in lengths(file).items() if lines > FUNCTION_LINES_MAX} == set()


def test_half_of_the_functions_are_short():
    lines = sorted(each for file in FILES for each in lengths(file).values())
    assert lines[len(lines) // 2] <= 9


def test_the_http_parser_fits_five_hundred_lines():
    """Everything that decides how bytes are read as HTTP: it can be reviewed in one sitting."""
    files = ("parser", "framing", "header_validation", "raw_errors")
    texts = [(ATLAS / "server" / "http" / f"{name}.py").read_text("utf-8") for name in files]
    assert sum(len(text.splitlines()) for text in texts) <= 500


# --- errors ---


@every_file
def test_only_the_runtime_catches_every_exception(file):
    broad = [
        node
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]
    assert not broad or package_of(file) == "runtime"


# --- names and docstrings ---


@every_file
def test_a_module_says_what_it_is_and_has_a_telling_name(file):
    assert ast.get_docstring(tree(file))
    assert file.stem not in VAGUE_MODULES


def test_a_class_name_stands_for_one_class():
    names = Counter(
        node.name
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


@every_file
def test_a_docstring_names_its_subject_first(file):
    """A docstring that begins with a wh-word is a riddle until its end."""
    assert [text for text in docstrings(file) if WH_WORD.match(text)] == []


@every_file
def test_a_function_is_not_named_by_a_bare_participle_or_preposition(file):
    plain = (each for each in functions(file) if not each.name.startswith("__"))
    names = {each.name.strip("_") for each in plain if not is_property(each)}
    participles = {name for name in names if PARTICIPLE.fullmatch(name)} - NOT_PARTICIPLES
    assert participles | names & PREPOSITIONS == set()


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(each) for each in function.decorator_list)


# --- the rest of the repository ---


def test_no_test_module_imports_another():
    """Helpers that several of them use live in tests/support."""
    for file in (ROOT / "tests").rglob("*.py"):
        ours = [name for name in imports(file) if name.startswith("tests.")]
        assert not [name for name in ours if ".test_" in name.rpartition(".")[0]], file


@pytest.mark.parametrize(
    "name", sorted(each.stem for each in (ROOT / "tests/bench").glob("[a-z]*.py"))
)
def test_a_benchmark_can_be_imported(name):
    """No other test runs the benchmarks."""
    assert import_module(f"tests.bench.{name}").__doc__


def test_the_top_level_is_what_the_owner_asked_for():
    ours = {"atlas", "tests", "config", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    ours |= {"justfile", "Containerfile", "CONTRIBUTING.md", "SECURITY.md"}
    made = {"var", "dist", "build"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - made <= ours
