"""A stand-in for Foundry's packages `transforms.api` and `transforms.expectations`.

It has what the repository in config/foundry/transforms uses, as Palantir documents it, and runs a
build over local folders: the first one and one after a changed file are full, others incremental.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class Input:
    path: str


@dataclass
class Output:
    path: str
    checks: list[Any] = field(default_factory=list)


@dataclass
class Check:
    expectation: tuple[str, ...]
    name: str
    on_error: str = "FAIL"


@dataclass
class Transform:
    compute: Callable[..., None]
    inputs: dict[str, Input]
    outputs: dict[str, Output]
    is_incremental: bool = False


def transform(**parameters):
    inputs = {name: each for name, each in parameters.items() if isinstance(each, Input)}
    outputs = {name: each for name, each in parameters.items() if isinstance(each, Output)}
    return lambda compute: Transform(compute, inputs, outputs)


def incremental(*, semantic_version):
    def mark(found):
        assert semantic_version >= 1
        found.is_incremental = True
        return found

    return mark


class Pipeline:
    def __init__(self):
        self.transforms = []

    def discover_transforms(self, package):
        for file in sorted(Path(package.__file__).parent.glob("[a-z]*.py")):
            module = import_module(f"{package.__name__}.{file.stem}")
            self.transforms += [
                each for each in vars(module).values() if isinstance(each, Transform)
            ]


class Expectations(ModuleType):
    primary_key = staticmethod(lambda *columns: ("primary_key", *columns))
    col = staticmethod(lambda name: SimpleNamespace(non_null=lambda: ("non_null", name)))


@dataclass
class BuiltOutput:
    """An output of one build; `folder` has a folder of Parquet for each transaction."""

    spark: Any
    folder: Path
    number: int
    is_incremental: bool
    mode: str = ""
    was_written: bool = False

    def __post_init__(self):
        self.mode = "modify" if self.is_incremental else "replace"

    def dataframe(self, mode, schema):
        assert mode == "previous"
        paths = [str(path) for path in self.folder.glob("*") if int(path.name) < self.number]
        return self.spark.read.schema(schema).parquet(*paths) if paths else None

    def set_mode(self, mode):
        assert mode in {"replace", "modify"}
        assert not self.was_written
        self.mode = mode

    def write_dataframe(self, rows):
        self.was_written = True
        rows.write.parquet(str(self.folder / str(self.number)))

    def commit(self):
        for path in list(self.folder.glob("*")):
            if self.mode == "replace" and self.was_written and int(path.name) < self.number:
                path.rename(path.parent.parent / f"{self.folder.name}.{path.name}.replaced")


@dataclass
class FoundryBuilds:
    """Runs a transform over a folder of raw files, as builds in Foundry do."""

    spark: Any
    folder: Path
    raw: Path
    built: int = 0
    known: set[str] = field(default_factory=set)

    def build(self, found: Transform) -> bool:
        """Run the transform. Returns True if the build was incremental."""
        files = {path.relative_to(self.raw).as_posix() for path in self.raw.rglob("*.*")}
        is_incremental = found.is_incremental and self.built > 0 and self.known <= files
        self.built += 1
        shown = sorted(files - self.known if is_incremental else files)
        listing = [SimpleNamespace(path=path) for path in shown]
        files_of_raw = SimpleNamespace(hadoop_path=str(self.raw), ls=lambda: iter(listing))
        outputs = {
            name: BuiltOutput(self.spark, self.folder / name, self.built, is_incremental)
            for name in found.outputs
        }
        context = SimpleNamespace(spark_session=self.spark, is_incremental=is_incremental)
        (raw,) = found.inputs
        given = {raw: SimpleNamespace(filesystem=lambda: files_of_raw), **outputs}
        found.compute(context, **given)
        for output in outputs.values():
            output.commit()
        self.known = files
        return is_incremental


@contextmanager
def foundry_packages() -> Iterator[None]:
    """Make the packages importable."""
    api, package = ModuleType("transforms.api"), ModuleType("transforms")
    for each in (Input, Output, Check, Pipeline, incremental, transform):
        setattr(api, each.__name__, each)
    package.api, package.expectations = api, Expectations("transforms.expectations")
    modules = {"transforms": package, "transforms.api": api}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
