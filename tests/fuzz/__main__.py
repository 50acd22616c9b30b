"""`python -m tests.fuzz [TARGET [SECONDS]]`: libFuzzer, led by what Atlas's code does.

    python -m tests.fuzz              every target, for a minute each
    python -m tests.fuzz lines 600    one of them, for ten minutes

It starts from the corpus and keeps what is new in a folder of its own; where a find lies is the
last that it says. SEED in the environment makes it go the same way again. What a file makes of a
target, `pytest tests/fuzz/test_targets.py` tells, once the file lies in the corpus.
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


def names() -> list[str]:
    return sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())


def fuzz(name: str, seconds: str, seed: str) -> None:
    """Ends the process: with 0 when nothing was found."""
    import atheris  # noqa: PLC0415  # it is not to be had everywhere

    with atheris.instrument_imports(include=["atlas", "joserfc", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    new = found / "new"
    new.mkdir()
    print(f"{name}: seed {seed}, {seconds} s, finds in {found}", flush=True)
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": BYTES_MAX,
        "timeout": SLOW_SECONDS,
        "rss_limit_mb": MEMORY_MIB,
        "dict": CORPUS / "words.dict",
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    set_ = [f"-{flag}={value}" for flag, value in flags.items()]
    atheris.Setup([name, *set_, str(new), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    seed = os.environ.get("SEED") or str(random.randrange(1, 2**31))
    if not arguments:
        runs = [[sys.executable, "-m", "tests.fuzz", name] for name in names()]
        return max(subprocess.run(run, check=False).returncode for run in runs)
    name, *rest = arguments
    if name not in names() or len(rest) > 1 or not all(each.isdecimal() for each in rest):
        print(f"{__doc__}\nTargets: {', '.join(names())}", file=sys.stderr)
        return 2
    fuzz(name, rest[0] if rest else SECONDS, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
