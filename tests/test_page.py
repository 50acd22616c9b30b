"""The operator page of a running service, in a real browser."""

import base64
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import axe_playwright_python
import msgspec
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    expect,
    sync_playwright,
)
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from atlas.core.identifiers import API_PREFIX
from atlas.edge.openapi import build_document, build_operator_document
from atlas.edge.operator.page import FOLDER, KINDS
from atlas.local.postgres.programs import find_wheel
from tests.conftest import an_export, cannot_run
from tests.support.demo_phones import DemoPhones
from tests.support.processes import (
    COMMAND,
    ENVIRON,
    HOST,
    NOWHERE,
    SECONDS,
    SECONDS_OF_ALL,
    Local,
    fetched,
    four_free_ports,
    killed_at_last,
    local,
    started,
)
from tests.support.waiting import until

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
WIDTHS, SCHEMES = (360, 768, 1440), ("light", "dark")
STREAM = "text/event-stream"
MARKUP = "<img src=x onerror=alert(1)>"
BYTES_MAX = 100_000
TABS_MAX = 60
SECONDS_OF_MODULE = 600.0  # longer than all of these tests take
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

    def sent(
        self, uuid: str, prefer: str = "wait=20", sub: str = "somebody", **headers: str
    ) -> str:
        """Send one record and one invalid line; return the receipt id."""
        query = urllib.parse.urlencode({"sub": sub})
        tokens = f"http://{HOST}:{self.local.port + 2}/stand-in/tokens?{query}"
        token = fetched(tokens).decode()
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
        self.refuse(status, name)
        yield
        self.accept()

    @property
    def faults(self) -> str:
        return f"http://{HOST}:{self.local.port + 1}/stand-in/faults"

    def refuse(self, status: int, name: str) -> None:
        fault = {"call": "upload", "kind": "status", "status": status, "name": name, "count": 0}
        request_url("POST", self.faults, msgspec.json.encode(fault))

    def accept(self) -> None:
        request_url("DELETE", self.faults)


def request_url(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> None:
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)
    urllib.request.urlopen(request, timeout=SECONDS).close()


def wait_until_live(looked: PageSession) -> None:
    looked.page.wait_for_selector("#connection[data-state=live]")


@pytest.fixture(scope="module")
def guarded(browser, tmp_path_factory) -> Iterator[BrowsedService]:
    """A service that requires a token, with exports in every status."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "atlas.toml").write_text(f'[operator]\ntoken = "{TOKEN}"\n')
    with local(folder, "--config", "atlas.toml", seconds=SECONDS_OF_MODULE) as running:
        operated = BrowsedService(running, browser, TOKEN)
        operated.sent("committed")
        operated.refused("refused", **{"X-Correlation-Id": MARKUP})
        yield operated


@pytest.fixture(scope="module")
def open_to_all(browser, tmp_path_factory) -> Iterator[BrowsedService]:
    """A service without a token, and without exports."""
    with local(tmp_path_factory.mktemp("open"), seconds=SECONDS_OF_MODULE) as running:
        yield BrowsedService(running, browser, "")


@pytest.fixture(scope="module")
def replicas(browser, tmp_path_factory, postgres_servers) -> Iterator[list[str]]:
    """The operator URLs of two replicas, without Foundry and Auth0."""
    server = postgres_servers.get("wheel" if find_wheel() else "machine")
    folder, urls = tmp_path_factory.mktemp("replicas"), []
    with ExitStack() as processes:
        for _ in range(2):
            port = four_free_ports()
            environment = {
                **NOWHERE,
                "PORT": str(port),
                "ATLAS_OPERATOR_LISTEN": f"{HOST}:{port + 1}",
                "ATLAS_JOURNAL": f"{server.url}?schema=page",
                "ATLAS_JOURNAL_KEY": base64.b64encode(bytes(32)).decode(),
            }
            process = subprocess.Popen(
                [COMMAND, "serve"],
                cwd=folder,
                env=ENVIRON | environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            processes.enter_context(killed_at_last(process, SECONDS_OF_ALL))
            urls.append(f"http://{HOST}:{port + 1}")
        for url in urls:
            wait_until_answered(url)
        yield urls


def wait_until_answered(url: str) -> None:
    give_up_at = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=SECONDS).close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_each_replica_shows_all_of_them_and_marks_itself(browser, replicas, width, scheme):
    marked = []
    for url in replicas:
        viewport = {"width": width, "height": 800}
        with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
            looked = PageSession(context.new_page())
            looked.page.goto(url)
            rows = looked.page.locator("#replicas tbody tr")
            expect(rows).to_have_count(2)
            expect(looked.page.locator("#replicas")).to_contain_text("leads (epoch 1)")
            expect(rows.filter(has_text="follows")).to_have_count(1)
            marked.append(rows.filter(has_text="this one").text_content())
            expect(looked.page.locator("#journal")).to_contain_text("in the database")
            expect(looked.page.locator("#versions")).to_have_text("")
            assert looked.page.evaluate("document.documentElement.scrollWidth") <= width
            assert findings(looked.page) == []
            assert looked.complaints == []
    assert marked[0] != marked[1]


def test_a_service_without_other_replicas_shows_no_empty_list(open_to_all):
    with open_to_all.context() as context:
        page = open_to_all.opened(context).page

        expect(page.locator("#waiting svg")).to_be_visible()
        expect(page.locator("#replicas")).to_be_hidden()


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
        looked.page.click("#newer:enabled")
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


def test_a_user_is_found_by_the_sub_of_a_ticket(guarded):
    guarded.sent("of somebody else")
    id = guarded.sent("of the ticket", sub="auth0|ticket")
    with guarded.context() as context:
        page = guarded.opened(context).page
        page.fill("[name=find]", "auth0|ticket")
        page.keyboard.press("Enter")
        rows = page.locator("#exports tbody tr")
        expect(rows).to_have_count(1)
        expect(rows).to_have_attribute("data-id", id)


def test_what_was_set_aside_is_part_of_the_verdict_and_shown_by_a_button(guarded):
    with guarded.context() as context:
        page = guarded.opened(context).page
        expect(page.locator("#verdict-state")).to_have_text("Degraded")
        expect(page.locator("#reasons")).to_contain_text("set aside")
        expect(page).to_have_title("DEGRADED · Atlas")
        page.click("#set-aside-show")
        expect(page.locator("#exports [data-status=committed]")).to_have_count(0)
        expect(page.locator("#exports [data-status=set_aside]").first).to_be_visible()


def test_what_failed_is_part_of_the_verdict_with_why_and_shown_by_a_button(guarded):
    with guarded.context() as context, guarded.refusing(400, "FileContentRefused"):
        page = guarded.opened(context).page
        id = guarded.sent("failed", prefer="respond-async")
        expect(page.locator("#reasons")).to_contain_text("1 export has failed")
        told = page.locator("#failed-reason")
        expect(told).to_contain_text("Foundry answers 400 FileContentRefused (errorInstanceId ")
        expect(page.locator("#reasons")).not_to_contain_text("Uploads are paused")
        page.click("#failed-show")
        row = page.locator("#exports tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_have_attribute("data-id", id)
        expect(row).to_contain_text("failed retried in a file of its own")
        row.get_by_role("button").click()
        expect(page.locator("#entry")).to_contain_text("Foundry answers 400 FileContentRefused")
        expect(page.locator("#entry")).to_contain_text("in a file of its own")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert findings(page) == []
    with guarded.context() as context:
        expect(guarded.opened(context).page.locator("#failed-show")).to_be_hidden()


def test_latency_and_errors_of_phones_and_foundry_are_shown_and_no_link_of_an_emulator(guarded):
    with guarded.refusing(400, "FileContentRefused"):
        guarded.sent("measured", prefer="respond-async")
    with guarded.context() as context:
        page = guarded.opened(context).page
        phones, foundry = (
            row.locator("td").all_text_contents() for row in page.locator("#latency tbody tr").all()
        )
        assert int(phones[0]) > 0
        assert phones[3] == "0"
        assert re.fullmatch(r"[1-9]\d* \([\d.]+ %\)", foundry[3])
        assert all(re.fullmatch(r"[\d.]+ m?s", each) for each in phones[1:3] + foundry[1:3])
        assert page.locator("#service a, #latency a, #commits a").count() == 0


def test_the_dataset_is_a_link_to_foundry_that_says_nothing_of_the_page(guarded):
    address = "https://foundry.example/workspace/data-integration/dataset/preview/ri.1/master"
    with guarded.context() as context:
        status = guarded.query("/status") | {"dataset_url": address}
        event = f"data: {msgspec.json.encode(status).decode()}\n\n"
        looked = PageSession(context.new_page())
        looked.page.route(
            "**/status/stream", lambda route: route.fulfill(content_type=STREAM, body=event)
        )
        looked.page.goto(guarded.url)
        looked.page.fill("#token input", TOKEN)
        looked.page.keyboard.press("Enter")
        link = looked.page.locator("#service a")
        expect(link).to_have_attribute("href", address)
        expect(link).to_have_attribute("rel", "noreferrer")
        looked.page.locator("#exports tr:has([data-status=committed]) button").first.click()
        expect(looked.page.locator("#entry a")).to_have_attribute("href", address)
        assert findings(looked.page) == []


def test_quiet_phones_are_listed_with_the_command_that_lists_all_of_them(guarded):
    quiet = {
        "user": "28d2e43de86b47b4",
        "device": "iPhone",
        "last_export_at": "2026-01-07T12:00:00Z",
        "samples": {"HKQuantityTypeIdentifierStepCount": "2026-01-06T23:00:00Z"},
        "report": {"event": "sync_failed", "error": {"code": "HKErrorDatabaseInaccessible"}},
    }
    body = msgspec.json.encode({"quiet_days": 12, "phones": [quiet]})
    with guarded.context() as context:
        looked = PageSession(context.new_page())
        looked.page.route("**/phones?*", lambda route: route.fulfill(body=body))
        looked.page.goto(guarded.url)
        looked.page.fill("#token input", TOKEN)
        looked.page.keyboard.press("Enter")
        row = looked.page.locator("#phones tbody tr")
        expect(row).to_contain_text("HKErrorDatabaseInaccessible")
        assert "2026-01-06" in row.locator("td").all_text_contents()
        expect(looked.page.locator("#phones caption")).to_contain_text("atlas phones --quiet 12d")
        assert findings(looked.page) == []


def test_a_list_stays_as_it_is_until_somebody_asks_for_what_is_newer(guarded):
    with guarded.context() as context, guarded.refusing(400, "FileContentRefused"):
        page = guarded.opened(context).page
        rows = page.locator("#exports tbody tr")
        expect(rows.first).to_be_visible()
        before = [row.get_attribute("data-id") for row in rows.all()]
        sent = [guarded.sent(f"newer {number}", prefer="respond-async") for number in range(3)]
        expect(page.locator("#newer")).to_have_text("3 newer, show")
        assert [row.get_attribute("data-id") for row in rows.all()] == before
        page.click("#newer")
        expect(rows.first).to_have_attribute("data-id", sent[2])
        expect(page.locator("#newer")).to_be_hidden()
        assert page.evaluate("document.activeElement.textContent") == sent[2][:12]
        expect(rows.first.locator("[data-status=failed]")).to_be_visible()
        guarded.accept()
        expect(rows.first.locator("[data-status=committed]")).to_be_visible()
        assert page.evaluate("document.activeElement.textContent") == sent[2][:12]


def test_an_export_that_was_erased_meanwhile_is_said_to_be(guarded):
    id = guarded.sent("erased", sub="auth0|erased")
    with guarded.context() as context:
        page = guarded.opened(context).page
        row = page.locator(f'#exports tr[data-id="{id}"]')
        expect(row).to_contain_text("committed")
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        body = msgspec.json.encode({"user": "auth0|erased"})
        request_url("POST", f"{guarded.url}/erasures", body, headers)
        row.get_by_role("button").click()
        expect(page.locator("#message")).to_have_text(f"{id[:12]}: it was erased.")
        expect(row).to_contain_text("erased")
        assert not page.locator("#export").is_visible()


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


DOCUMENTS = {"": build_document("1"), "?of=operator": build_operator_document("1")}


@pytest.mark.parametrize(
    ("of", "width", "scheme"),
    [("", 360, "dark"), ("", 1280, "light"), ("?of=operator", 768, "light")],
)
def test_the_page_of_an_api_shows_all_of_it_to_everybody(open_to_all, of, width, scheme):
    document = DOCUMENTS[of]
    ids = {each["operationId"] for item in document["paths"].values() for each in item.values()}
    with open_to_all.context(width, scheme) as context:
        looked = PageSession(context.new_page())
        looked.page.goto(f"{open_to_all.url}/docs{of}")
        looked.page.wait_for_selector("#types")
        shown = looked.page.evaluate(
            "[...document.querySelectorAll('details[id]')].map((e) => e.id)"
        )
        assert set(shown) == ids | {f"type-{name}" for name in document["components"]["schemas"]}
        looked.page.evaluate("document.querySelector('details.operation').open = true")
        looked.page.evaluate("document.querySelector('[id^=type-]').open = true")
        assert findings(looked.page) == []
        looked.page.evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
        assert looked.page.evaluate("document.documentElement.scrollWidth") <= width
        text = looked.page.text_content("main")

    assert "undefined" not in text
    assert "[object" not in text
    assert looked.complaints == []
    assert {url for url in looked.requested if not url.startswith(f"{open_to_all.url}/")} == set()


def test_the_page_of_an_api_is_found_and_read_with_the_keyboard(open_to_all):
    with open_to_all.context() as context:
        page = open_to_all.opened(context).page
        page.get_by_role("link", name="The HTTP API").press("Enter")
        operation = page.locator("#postBatch")
        operation.locator("summary").first.focus()
        page.keyboard.press("Enter")
        expect(operation.get_by_text("CHUNK_TOO_LARGE").first).to_be_visible()
        operation.get_by_role("link", name="BatchBody").press("Enter")
        expect(page.locator("#type-BatchBody")).to_have_attribute("open", "")
        expect(page.locator("#type-BatchBody > summary")).to_be_focused()
        expect(page.locator("#type-BatchBody")).to_contain_text("maxItems 64")
        page.goto(f"{open_to_all.url}/docs?of=operator#replayExport")
        expect(page.locator("#replayExport")).to_have_attribute("open", "")


def test_the_page_of_an_api_says_so_if_the_document_does_not_come(open_to_all):
    with open_to_all.context() as context:
        page = context.new_page()
        page.route("**/openapi-public.json", lambda route: route.abort())
        page.goto(f"{open_to_all.url}/docs")
        expect(page.get_by_role("alert")).to_contain_text("/openapi-public.json cannot be shown")


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
        pytest.param(signal.SIGKILL, "Atlas does not respond; reconnecting.", id="killed"),
        pytest.param(signal.SIGTERM, "Atlas has shut down.", id="drained"),
    ],
)
def test_whoever_looks_on_is_told_that_atlas_is_gone_and_sees_it_come_again(
    browser, tmp_path, number, told
):
    with local(tmp_path) as running:
        operated = BrowsedService(running, browser, "")
        operated.sent("before")
        with operated.context() as context:
            looked = operated.opened(context)
            expect(looked.page.locator("#exports tbody tr")).to_have_count(1)
            running.ended(number)
            expect(looked.page.locator("#verdict-state")).to_have_text("No connection")
            expect(looked.page.locator("#verdict-age")).to_have_text(re.compile(r"for \d+ s"))
            expect(looked.page.locator("#reasons")).to_contain_text(told)
            expect(looked.page).to_have_title("NO CONNECTION · Atlas")
            looked.page.locator("#exports tbody button").click()
            expect(looked.page.locator("#message")).to_contain_text("no answer")
            assert findings(looked.page) == []
            arguments = ["local", "--port", running.port, "--state", "state"]
            with killed_at_last(started(tmp_path, *arguments, log=subprocess.DEVNULL)):
                wait_until_live(looked)
                expect(looked.page.locator("#verdict-age")).to_have_text("")
                expect(looked.page).to_have_title("OK · Atlas")


CLICKS = 50
CHOICES = 8  # rows from which one is chosen
EXPORTS_PER_SECOND = 20.0


def test_fifty_clicks_under_load_open_the_export_under_the_pointer(browser, tmp_path):
    """While the list gets newer exports, and the verdict above it comes and goes."""
    chance = random.Random(7)
    with local(tmp_path) as running:
        operated = BrowsedService(running, browser, "")
        phones = DemoPhones(running.port, EXPORTS_PER_SECOND)
        with operated.context() as context, phones.sending():
            until(lambda: operated.query("/status")["counts"]["accepted"] >= CHOICES)
            page = operated.opened(context).page
            expect(page.locator("#newer")).to_contain_text("newer, show")
            opened = sum(
                open_what_is_under_the_pointer(operated, page, number, chance)
                for number in range(CLICKS)
            )
            sent = int(operated.query("/status")["counts"]["accepted"])
    sys.stdout.write(f"{opened} of {CLICKS} clicks opened it; {sent:,} exports meanwhile\n")
    assert opened == CLICKS
    assert sent > CLICKS


def open_what_is_under_the_pointer(
    operated: BrowsedService, page: Page, number: int, chance: random.Random
) -> bool:
    """Choose a row, reach for it, press the button where it was seen, and return whether it opened.

    Before every fifth click, Foundry begins to refuse or accept; after each tenth the list is new.
    """
    rows = page.locator("#exports tbody tr")
    if number % 10 == 5:
        newest = rows.first.get_attribute("data-id")
        page.click("#newer:enabled")
        expect(rows.first).not_to_have_attribute("data-id", newest)
    row = rows.nth(chance.randrange(CHOICES))
    row.scroll_into_view_if_needed()
    seen = row.get_attribute("data-id")
    box = row.get_by_role("button").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    if number % 10 == 0:
        operated.refuse(400, "FileContentRefused")
    if number % 10 == 5:
        operated.accept()
    page.wait_for_timeout(chance.uniform(100, 1_600))  # a person reads before clicking
    page.mouse.click(x, y)
    try:
        page.wait_for_selector("#export[open]", timeout=3_000)
    except PlaywrightTimeoutError:
        return False
    opened = page.locator("#entry dd").first.text_content()
    page.keyboard.press("Escape")
    page.wait_for_selector("#export:not([open])", state="attached")
    return opened == seen


def test_all_is_well_is_said_in_the_title_too(browser, tmp_path):
    with local(tmp_path) as running:
        operated = BrowsedService(running, browser, "")
        with operated.context() as context:
            page = operated.opened(context).page
            expect(page.locator("#verdict")).to_contain_text("Exports are accepted")
            expect(page).to_have_title("OK · Atlas")


def test_that_no_export_can_be_accepted_is_said_in_the_title_too(browser, tmp_path):
    (tmp_path / "atlas.toml").write_text("[journal]\nexports_max = 1\n")
    with local(tmp_path, "--config", "atlas.toml") as running:
        operated = BrowsedService(running, browser, "")
        with operated.context() as context, operated.refusing(400, "FileContentRefused"):
            page = operated.opened(context).page
            operated.sent("fills it", prefer="respond-async")
            expect(page.locator("#verdict-state")).to_have_text("Down")
            expect(page.locator("#reasons")).to_contain_text("No export can be accepted")
            expect(page).to_have_title("DOWN · Atlas")
            assert findings(page) == []
