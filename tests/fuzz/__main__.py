"""`python -m tests.fuzz [TARGET [SECONDS]]`: libFuzzer, guided by the coverage of Atlas's code.

    python -m tests.fuzz              every target, for a minute each
    python -m tests.fuzz lines 600    one target, for ten minutes

Starts from the corpus and stores new inputs in a temporary folder; the last line of output names
the file of a find. SEED in the environment repeats a run. Copy a find into the corpus, and
`pytest tests/fuzz/test_targets.py` runs it.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SECONDS = "60"
BYTES_MAX, SLOW_SECONDS, MEMORY_MIB = 64 * 1024, 5, 1024


def list_targets() -> list[str]:
    return sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())


def fuzz(name: str, seconds: str, seed: str) -> None:
    """Fuzz one target. Ends the process, with 0 if nothing was found."""
    import atheris  # noqa: PLC0415  # not available on all platforms

    with atheris.instrument_imports(include=["atlas", "joserfc", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    new_inputs = folder / "new"
    new_inputs.mkdir()
    print(f"{name}: seed {seed}, {seconds} s, finds in {folder}", flush=True)
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": BYTES_MAX,
        "timeout": SLOW_SECONDS,
        "rss_limit_mb": MEMORY_MIB,
        "dict": CORPUS / "words.dict",
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    options = [f"-{flag}={value}" for flag, value in flags.items()]
    atheris.Setup([name, *options, str(new_inputs), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    seed = os.environ.get("SEED") or str(random.randrange(1, 2**31))
    if not arguments:
        runs = [[sys.executable, "-m", "tests.fuzz", name] for name in list_targets()]
        return max(subprocess.run(run, check=False).returncode for run in runs)
    name, *rest = arguments
    if name not in list_targets() or len(rest) > 1 or not all(each.isdecimal() for each in rest):
        print(f"{__doc__}\nTargets: {', '.join(list_targets())}", file=sys.stderr)
        return 2
    fuzz(name, rest[0] if rest else SECONDS, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
