"""Entry point of `python -m atlas` and of the command `atlas`.

Worker processes import this file again, so it imports nothing of Atlas before it runs.
"""

import sys


def main() -> None:
    try:
        from atlas.cli import main as run  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
