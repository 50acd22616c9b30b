"""The operator page of a running service, in a real browser."""

import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import axe_playwright_python
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from atlas.core.identifiers import API_PREFIX
from atlas.edge.operator.page import FOLDER, KINDS
from tests.conftest import an_export, cannot_run
from tests.support.processes import HOST, SECONDS, Local, fetched, killed_at_last, local, started

pytestmark = pytest.mark.slow

TOKEN = "a-secret-of-operators"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
WIDTHS, SCHEMES = (360, 768, 1280), ("light", "dark")
MARKUP = "<img src=x onerror=alert(1)>"
BYTES_MAX = 100_000
TABS_MAX = 60
AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
FLOW = ["edge", "authenticate", "decode", "flatten", "journal", "upload", "Foundry"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        cannot_run("needs Chromium")
    expect.set_options(timeout=SECONDS * 1_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class PageSession:
    """A browser page, with its console errors and its requests."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(SECONDS * 1_000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def number(self, count: str) -> int:
        return int(self.page.text_content(f"[data-count={count}]").replace(",", ""))

    def press_tab_until(self, text: str) -> None:
        """Press Tab until this element has the focus."""
        for _ in range(TABS_MAX):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.textContent.trim()") == text:
                return
        pytest.fail(f"No Tab leads to {text!r}.")


@dataclass
class BrowsedService:
    """A running service, its operator listener, and a browser for its page."""

    local: Local
    browser: Browser
    token: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.local.port + 3}"

    def opened(self, context: BrowserContext) -> PageSession:
        """Open the page and wait until it is live. Type in the token if one is needed."""
        looked = PageSession(context.new_page())
        looked.page.goto(self.url)
        if self.token:
            looked.page.fill("#token input", self.token)
            looked.page.keyboard.press("Enter")
        wait_until_live(looked)
        return looked

    def context(self, width: int = 1280, scheme: str = "light") -> BrowserContext:
        return self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )

    def query(self, path: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return msgspec.json.decode(answer.read())

    def sent(self, uuid: str, prefer: str = "wait=20", **headers: str) -> str:
        """Send one record and one invalid line; return the receipt id."""
        token = fetched(f"http://{HOST}:{self.local.port + 2}/stand-in/tokens").decode()
        request = urllib.request.Request(
            f"{self.local.url}{API_PREFIX}/export",
            msgspec.json.encode(an_export(b'{"uuid":"%b"}\nbad\n' % uuid.encode())),
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Prefer": prefer,
                **headers,
            },
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return str(msgspec.json.decode(answer.read())["receipt_id"])

    def refused(self, uuid: str, **headers: str) -> str:
        """Send an export that Foundry rejects, so that it is set aside.

        Foundry accepts it the next time.
        """
        with self.refusing(413, "RequestEntityTooLarge"):
            id = self.sent(uuid, **headers)
        assert self.query(f"/exports/{id}")["receipt"]["status"] == "set_aside"
        return id

    @contextmanager
    def refusing(self, status: int, name: str) -> Iterator[None]:
        """Make Foundry reject every file."""
        faults = f"http://{HOST}:{self.local.port + 1}/stand-in/faults"
        fault = {"call": "upload", "kind": "status", "status": status, "name": name, "count": 0}
        request_url("POST", faults, msgspec.json.encode(fault))
        yield
        request_url("DELETE", faults)


def request_url(method: str, url: str, body: bytes | None = None) -> None:
    request = urllib.request.Request(url, body, method=method)
    urllib.request.urlopen(request, timeout=SECONDS).close()


def wait_until_live(looked: PageSession) -> None:
    looked.page.wait_for_selector("#connection[data-state=live]")


@pytest.fixture(scope="module")
def guarded(browser, tmp_path_factory) -> Iterator[BrowsedService]:
    """A service that requires a token, with exports in every status."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "atlas.toml").write_text(f'[operator]\ntoken = "{TOKEN}"\n')
    with local(folder, "--config", "atlas.toml") as running:
        operated = BrowsedService(running, browser, TOKEN)
        operated.sent("committed")
        operated.refused("refused", **{"X-Correlation-Id": MARKUP})
        yield operated


@pytest.fixture(scope="module")
def open_to_all(browser, tmp_path_factory) -> Iterator[BrowsedService]:
    """A service without a token, and without exports."""
    with local(tmp_path_factory.mktemp("open")) as running:
        yield BrowsedService(running, browser, "")


def test_it_is_small_loads_without_a_complaint_and_asks_nobody_else(open_to_all):
    with open_to_all.context() as context:
        looked = open_to_all.opened(context)
        looked.page.wait_for_selector("#no-exports:not([hidden])")
        loaded = looked.page.evaluate("""
            ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
                .reduce((sum, each) => sum + each.transferSize, 0)
        """)
        paint = looked.page.evaluate("performance.getEntriesByName('first-paint')[0].startTime")

    files = sum((FOLDER / name).stat().st_size for name in KINDS)
    told = f"first paint after {paint:.0f} ms; {loaded:,} bytes loaded, {files:,} in files\n"
    sys.stdout.write(told)
    assert looked.complaints == []
    assert {url for url in looked.requested if not url.startswith(f"{open_to_all.url}/")} == set()
    assert 0 < loaded < BYTES_MAX
    assert files < BYTES_MAX


def test_whoever_has_nothing_is_told_how_to_begin(open_to_all):
    with open_to_all.context() as context:
        page = open_to_all.opened(context).page

        expect(page.locator("#no-exports")).to_contain_text("atlas send FILE.ndjson")
        expect(page.locator("#no-commits")).to_be_visible()


def test_the_flow_stands_in_the_order_of_the_data(open_to_all):
    with open_to_all.context() as context:
        page = open_to_all.opened(context).page

        assert page.locator("#flow h3").all_text_contents() == FLOW
        assert "/s" in page.text_content("#flow [data-stage=decode]")


def test_its_numbers_move_when_an_export_is_sent(guarded):
    with guarded.context() as context:
        looked = guarded.opened(context)
        before = {name: looked.number(name) for name in ("accepted", "committed", "rejected")}
        commits = looked.page.locator("#timeline rect").count()
        id = guarded.sent("moves")
        expect(looked.page.locator(f'#exports tr[data-id="{id}"]')).to_contain_text("committed")
        for name, number in before.items():
            expect(looked.page.locator(f"[data-count={name}]")).to_have_text(f"{number + 1:,}")
        expect(looked.page.locator("#timeline rect")).to_have_count(commits + 1)
        expect(looked.page.locator("#rejects")).to_contain_text("not valid JSON")


def test_the_wrong_token_is_said_to_be_and_the_right_one_opens(guarded):
    with guarded.context() as context:
        looked = PageSession(context.new_page())
        looked.page.goto(guarded.url)
        for wrong in ("wrong", "gehe\u00efm", "\u30c8\u30fc\u30af\u30f3"):
            looked.page.fill("#token input", wrong)
            looked.page.keyboard.press("Enter")
            expect(looked.page.locator("#token-error")).to_have_text("Wrong token.")
            expect(looked.page.locator("#token input")).to_have_value("")
        assert looked.page.text_content("#service") == ""
        looked.page.keyboard.press("Escape")
        looked.page.click("#unlock")
        looked.page.fill("#token input", TOKEN)
        looked.page.keyboard.press("Enter")
        wait_until_live(looked)
        looked.page.reload()
        wait_until_live(looked)

    assert all(TOKEN not in url for url in looked.requested)
    assert all("401" in complaint for complaint in looked.complaints), "the browser's own words"


def test_what_was_set_aside_is_sent_again_by_keyboard_alone(guarded):
    id = guarded.refused("again")
    with guarded.context() as context:
        looked = PageSession(context.new_page())
        page = looked.page
        page.goto(guarded.url)
        page.wait_for_selector("#token[open]")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator(f'#exports tr[data-id="{id}"]')).to_contain_text("set aside")
        looked.press_tab_until(id[:12])
        page.keyboard.press("Enter")
        page.wait_for_selector("#export[open]")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.textContent") == id[:12], "it is back there"
        page.keyboard.press("Enter")
        looked.press_tab_until("Send again")
        page.keyboard.press("Enter")
        assert "again" not in guarded.local.uuids(), "it has asked whether that is meant"
        page.keyboard.press("Enter")

        expect(page.locator("#message[role=status]")).to_have_text(f"{id[:12]}: sent again.")
        expect(page.locator(f'#exports tr[data-id="{id}"]')).to_contain_text("committed")
    assert "again" in guarded.local.uuids()


def test_without_a_token_it_says_which_command_sends_it_again(open_to_all):
    id = open_to_all.refused("command")
    with open_to_all.context() as context:
        page = open_to_all.opened(context).page
        page.click(f'#exports tr[data-id="{id}"] button')
        expect(page.locator("#replay code")).to_have_text(f"atlas exports replay {id[:12]}")
        assert page.locator("#replay button").count() == 0
        status = page.evaluate(
            "id => fetch(`/exports/${id}/replay`, {method: 'POST'}).then(each => each.status)", id
        )

    assert status == 403
    assert open_to_all.query(f"/exports/{id}")["receipt"]["status"] == "set_aside"


def test_an_export_is_found_by_what_is_known_of_it(guarded):
    id = guarded.sent("found", **{"X-Correlation-Id": "the one of the complaint"})
    user = guarded.query(f"/exports/{id}")["user"]
    with guarded.context() as context:
        page = guarded.opened(context).page
        rows = page.locator("#exports tbody tr")
        for find in (id[:8], "the one of the complaint"):
            page.fill("[name=find]", find)
            page.keyboard.press("Enter")
            expect(rows).to_have_count(1)
            expect(rows.first).to_have_attribute("data-id", id)
        page.fill("[name=find]", user)
        page.select_option("[name=status]", "set_aside")
        expect(rows.first).to_contain_text("set aside")
        page.fill("[name=find]", "<b>nobody</b>")
        page.keyboard.press("Enter")
        expect(page.locator("#no-exports")).to_contain_text("No export matches.")


def test_what_was_set_aside_is_told_above_all_and_shown_by_a_button(guarded):
    with guarded.context() as context:
        page = guarded.opened(context).page
        expect(page.locator("#set-aside-count")).to_contain_text("set aside")
        page.click("#set-aside-show")
        expect(page.locator("#exports [data-status=committed]")).to_have_count(0)
        expect(page.locator("#exports [data-status=set_aside]").first).to_be_visible()


def test_what_failed_is_told_above_all_with_why_and_shown_by_a_button(guarded):
    with guarded.context() as context, guarded.refusing(400, "FileContentRefused"):
        page = guarded.opened(context).page
        id = guarded.sent("failed", prefer="respond-async")
        told = page.locator("#failed-count")
        expect(told).to_contain_text("1 export failed and is retried alone")
        expect(told).to_contain_text("Foundry answers 400 FileContentRefused (errorInstanceId ")
        expect(page.locator("#alarms")).not_to_contain_text("Uploads to Foundry are paused")
        page.click("#failed-show")
        row = page.locator("#exports tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_have_attribute("data-id", id)
        expect(row).to_contain_text("failed, retried in a file of its own")
        row.get_by_role("button").click()
        expect(page.locator("#entry")).to_contain_text("Foundry answers 400 FileContentRefused")
        expect(page.locator("#entry")).to_contain_text("in a file of its own")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert findings(page) == []
    with guarded.context() as context:
        expect(guarded.opened(context).page.locator("#failed")).to_be_hidden()


def test_a_list_that_is_long_is_leafed_through(guarded):
    for number in range(26):
        guarded.sent(f"leaf {number}", prefer="respond-async")
    with guarded.context() as context:
        page = guarded.opened(context).page
        rows = page.locator("#exports tbody tr")
        expect(rows).to_have_count(25)
        newest = rows.first.get_attribute("data-id")
        page.click("#older")
        expect(page.locator(f'#exports tr[data-id="{newest}"]')).to_have_count(0)
        page.click("#newest")
        expect(rows.first).to_have_attribute("data-id", newest)


def test_what_a_sender_wrote_is_text_whatever_it_looks_like(guarded):
    with guarded.context() as context:
        looked = guarded.opened(context)
        looked.page.fill("[name=find]", MARKUP)
        looked.page.keyboard.press("Enter")
        looked.page.locator("#exports tbody tr").first.get_by_role("button").click()

        expect(looked.page.locator("#entry")).to_contain_text(MARKUP)
        assert looked.page.locator("#entry img, #exports img").count() == 0


def test_no_script_runs_but_its_own(guarded):
    with guarded.context() as context:
        looked = guarded.opened(context)
        answer = looked.page.request.get(guarded.url)
        assert answer.headers["content-security-policy"] == POLICY
        before = len(looked.complaints)
        looked.page.evaluate("""
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = "<img src=x onerror='window.ran = true'>";
            document.body.insertAdjacentHTML("beforeend", image);
        """)
        with pytest.raises(Exception, match=r"ERR_BLOCKED|Failed to fetch|violates"):
            looked.page.evaluate(f"fetch('{guarded.local.url}/health')")
        assert looked.page.evaluate("window.ran") is None
        refused = "\n".join(looked.complaints[before:])
        assert "script-src 'self'" in refused
        assert "connect-src 'self'" in refused


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_it_at_any_width_in_the_light_and_in_the_dark(guarded, width, scheme):
    with guarded.context(width, scheme) as context:
        page = guarded.opened(context).page
        page.select_option("[name=status]", "set_aside")
        row = page.locator("#exports tr:has([data-status=set_aside]) button").first
        row.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert findings(page) == []
        row.click()
        page.wait_for_selector("#export[open]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert findings(page) == []


def findings(page: Page) -> list[str]:
    """Return serious and critical findings of axe-core, injected past the CSP, which stays on."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(each => each.violations)")
    return [
        f"{each['id']}: {node['html']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        pytest.param(signal.SIGKILL, "Atlas does not respond; reconnecting", id="killed"),
        pytest.param(signal.SIGTERM, "Atlas has shut down", id="drained"),
    ],
)
def test_whoever_looks_on_is_told_that_atlas_is_gone_and_sees_it_come_again(
    browser, tmp_path, number, told
):
    with local(tmp_path) as running:
        operated = BrowsedService(running, browser, "")
        with operated.context() as context:
            looked = operated.opened(context)
            running.ended(number)
            expect(looked.page.locator("#connection-state")).to_have_text(told)
            expect(looked.page.locator("#connection-age")).to_contain_text("last update")
            arguments = ["local", "--port", running.port, "--state", "state"]
            with killed_at_last(started(tmp_path, *arguments, log=subprocess.DEVNULL)):
                wait_until_live(looked)
                expect(looked.page.locator("#connection-age")).to_have_text("")
