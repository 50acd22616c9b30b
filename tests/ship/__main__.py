"""`python -m tests.ship [--base BASE] [--extras EXTRAS]`: build the image and try it.

    python -m tests.ship                      based on python:3.13-slim, pinned by its digest
    python -m tests.ship --base debian        based on Debian packages, if there is no registry
    python -m tests.ship --extras parquet     with the dependencies of Parquet

Builds the image, writes its SBOM, sends an export through it while Foundry is down, kills it,
starts another container with the same volume, and checks that the dataset has the rows exactly
once. Needs podman, and mmdebstrap for `debian`.
"""

import argparse
import sys
import time
from pathlib import Path

import anyio

from tests.chaos.service_process import Broken
from tests.ship import sbom
from tests.ship.container import SMALL, open_container_testbed, run_inside
from tests.ship.image import BASE, ROOT, Failed, Image, build_image

MB = 1_000_000


def say(what: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:6.1f} s"
    print(f"{took:>9}  {what}", flush=True)


async def main(base: str, extras: list[str]) -> None:
    """Build and try the image. Raises Failed and Broken."""
    began = time.monotonic()
    say(f"building on {base}: a minute or two the first time")
    image = build_image(base, extras)
    say(f"{image.name} is built", time.monotonic() - began)
    above = (image.bytes - image.base_bytes) / MB
    say(f"{image.bytes / MB:.0f} MB, {above:.0f} MB above its base {image.base}")
    say(f"its version: {run_inside(image, 'atlas', '--version')}")
    written = write_sbom(image)
    say(f"{written.relative_to(ROOT)} is its SBOM")
    await check_survival(image)


def write_sbom(image: Image) -> Path:
    path = ROOT / "var" / f"{image.name.rpartition('/')[2].replace(':', '-')}.cdx.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(sbom.render_sbom(image), encoding="utf-8")
    return path


async def check_survival(image: Image) -> None:
    """Check that an accepted export survives a SIGKILL. Raises Broken."""
    async with open_container_testbed(image, "image", *SMALL) as (bench, container):
        await bench.emulators.close()
        say("ready, 256 MB, read-only, without capabilities", await container.start())
        began = time.monotonic()
        reply = await bench.clients.deliver(bench.clients.next_export(), Prefer="respond-async")
        say(f"an export is {reply and reply.status}, Foundry is down", time.monotonic() - began)
        await container.kill()
        say("killed (SIGKILL)")
        await bench.emulators.open()
        say("ready again, with the same volume", await container.start())
        say("all is committed", await bench.wait_until_drained())
        say(f"at most {container.measure_peak_memory():.0f} MiB of memory in this life")
        code, seconds = await container.end()
        say(f"stopped (SIGTERM), exit code {code}", seconds)
        balance = await bench.draw_balance()
        bench.check_invariants(balance)
        if wrongs := bench.findings.failures:
            raise Broken("; ".join(wrongs))
        say("balance: none lost, none twice")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="just image", description="Build the image and try it.")
    parser.add_argument("--base", default=BASE, help="an image, or debian (default: %(default)s)")
    parser.add_argument("--extras", default="", help="parquet, otel, or both with a comma")
    arguments = parser.parse_args()
    try:
        anyio.run(main, arguments.base, [each for each in arguments.extras.split(",") if each])
    except (Failed, Broken) as failed:
        sys.exit(f"image: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)
