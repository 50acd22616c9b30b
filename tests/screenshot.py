"""Takes the picture of the operator page for the README: `python -m tests.screenshot [FILE]`.

It shows a minute and a half of synthetic phones, and Foundry gone for a quarter of a minute.
"""

import shutil
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from playwright.sync_api import sync_playwright

from tests.support.demo_phones import DemoPhones
from tests.support.processes import HOST, SECONDS, local

ROOT = Path(__file__).parent.parent
FILE = ROOT / "config" / "operator-page.png"
WIDTH, HEIGHT = 1280, 920
EXPORTS_PER_SECOND = 12.0
OUTAGE = {"call": "create", "kind": "status", "status": 503, "count": 0}
BEFORE_SECONDS, OUTAGE_SECONDS, AFTER_SECONDS = 40.0, 15.0, 35.0


def take_screenshot(file: Path) -> None:
    with (
        TemporaryDirectory() as folder,
        local(Path(folder), "--foundry-latency", "0.15") as running,
        DemoPhones(running.port, EXPORTS_PER_SECOND).sending(),
    ):
        faults = f"http://{HOST}:{running.port + 1}/stand-in/faults"
        time.sleep(BEFORE_SECONDS)
        request("POST", faults, msgspec.json.encode(OUTAGE))
        time.sleep(OUTAGE_SECONDS)
        request("DELETE", faults)
        time.sleep(AFTER_SECONDS)
        photograph(f"http://{HOST}:{running.port + 3}", file)


def request(method: str, url: str, body: bytes | None = None) -> None:
    asked = urllib.request.Request(url, body, method=method)
    urllib.request.urlopen(asked, timeout=SECONDS).close()


def photograph(url: str, file: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("#newer:enabled")
        page.wait_for_timeout(5_000)  # the rates are averages of five seconds
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    take_screenshot(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
