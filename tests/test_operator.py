"""The operator listener: the contents of the journal, for authorized users, without names."""

from dataclasses import dataclass

import msgspec
import pytest

from atlas.core.errors import FileRefused, FoundryError
from atlas.core.events import ExportFailed, ExportSetAside
from atlas.core.messages import JournalPage
from atlas.edge import operator
from atlas.edge.operator.page import KINDS
from atlas.settings import OperatorSettings, Settings
from tests.conftest import Answer, EventRecorder, Flow, ServiceHarness, an_export, asgi

HOST = "127.0.0.1:9464"


@dataclass
class OperatedService(ServiceHarness):
    """A service whose operators may need a token."""

    token: str = ""

    def settings(self) -> Settings:
        return msgspec.structs.replace(
            ServiceHarness.settings(self), operator=OperatorSettings(token=self.token)
        )


@pytest.fixture
def life(tmp_path):
    return OperatedService(tmp_path / "journal")


async def asked(flow: Flow, path: str, method: str = "GET", **headers: str) -> Answer:
    named = {name: value for name, value in ({"host": HOST} | headers).items() if value}
    return await asgi(flow.service.operator, method, path, named)


async def post_exports(flow: Flow, *uuids: str) -> list[str]:
    """Return the receipt ids of one export for each uuid."""
    answers = [await flow.post(an_export(b'{"uuid":"%b"}\n' % uuid.encode())) for uuid in uuids]
    return [answer.body["receipt_id"] for answer in answers]


def ids(answer: Answer) -> list[str]:
    return [entry["receipt"]["id"] for entry in answer.body["entries"]]


async def test_the_list_shows_the_newest_first_and_the_totals_of_all(life):
    async with life.running() as flow:
        sent = await post_exports(flow, "a", "b", "c")
        answer = await asked(flow, "/exports")

    assert answer.status == 200
    assert ids(answer) == sent[::-1]
    assert answer.body["totals"] == {"accepted": 0, "committed": 3, "set_aside": 0}
    assert answer.body["before"] is None


async def test_an_entry_tells_how_an_export_stands(life):
    async with life.running() as flow:
        receipt = (await flow.post(an_export(b'{"uuid":"a"}\nbad\n'))).body
        (entry,) = (await asked(flow, "/exports")).body["entries"]
        file = len(life.dataset.files()[receipt["file_path"]])

    assert entry | {"user": ""} == {
        "receipt": {
            "id": receipt["receipt_id"],
            "status": "committed",
            "at": "2026-01-02T12:00:00Z",
            "path": f"healthkit/raw/{{user {entry['user']}}}/2026-01-02T12-00-00-000Z.ndjson",
            "ingested": 1,
            "rejected": 1,
            "rejects": [{"line": 2, "reason": "not valid JSON"}],
            "transaction": receipt["transaction_rid"],
            "replayed": False,
        },
        "user": "",
        "bytes": file,
        "tries": 0,
        "reason": None,
        "correlation_id": receipt["correlationId"],
        "isolation": "none",
    }


async def test_a_user_is_the_same_hash_everywhere_and_the_sub_is_nowhere(life):
    async with life.running() as flow:
        sent = await flow.post(an_export(), token="token-of-auth0|zoe")
        await post_exports(flow, "a")
        everything = await asked(flow, "/exports")
        one = await asked(flow, f"/exports/{sent.body['receipt_id']}")

    other, first = (entry["user"] for entry in everything.body["entries"])
    assert one.body["user"] == first != other
    assert "zoe" in sent.body["file_path"]
    for answer in (everything, one):
        assert b"zoe" not in msgspec.json.encode(answer.body)


async def test_pages_hold_every_export_once_and_the_last_says_so(life):
    async with life.running() as flow:
        sent = await post_exports(flow, *"abcde")
        pages, before = [], 2**62
        for _ in range(3):
            page = await asked(flow, f"/exports?limit=2&before={before}")
            pages.append(ids(page))
            before = page.body["before"]

    assert pages == [[sent[4], sent[3]], [sent[2], sent[1]], [sent[0]]]
    assert before is None


async def test_a_page_that_holds_just_all_is_the_last(life):
    async with life.running() as flow:
        await post_exports(flow, "a", "b")

        assert (await asked(flow, "/exports?limit=2")).body["before"] is None


async def test_a_status_shows_only_those_that_stand_so(life):
    life.drain_seconds = 0.0
    life.dataset.refuses.add("healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson")
    async with life.running() as flow:
        set_aside, committed = await post_exports(flow, "a", "b")
        life.dataset.down = True
        answer = await flow.post(an_export(b'{"uuid":"c"}'), Prefer="respond-async")
        accepted = answer.body["receipt_id"]
        found = {
            status: await asked(flow, f"/exports?status={status}")
            for status in ("accepted", "committed", "set_aside")
        }

    assert {status: ids(answer) for status, answer in found.items()} == {
        "accepted": [accepted],
        "committed": [committed],
        "set_aside": [set_aside],
    }
    for answer in found.values():
        assert answer.body["totals"] == {"accepted": 1, "committed": 1, "set_aside": 1}


async def test_what_has_failed_is_listed_with_why_and_how_it_is_tried(life):
    reason = "Foundry answers 400 FileContentRefused (errorInstanceId 3f6e1c5a)."
    life.dataset.poisons["healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"] = FoundryError(reason)
    async with life.running() as flow:
        headers = {"Prefer": "respond-async", "X-Correlation-Id": "the one"}
        sent = await flow.post(an_export(b'{"uuid":"silent"}'), **headers)
        await post_exports(flow, "a")
        await flow.seen.wait_for(ExportFailed)
        found = [
            await asked(flow, f"/exports?status=failed{find}")
            for find in ("", "&find=the+one", f"&find={sent.body['receipt_id'][:8]}")
        ]
        others = await asked(flow, "/exports?status=failed&find=another")
        shown = await asked(flow, f"/exports/{sent.body['receipt_id']}")

    assert [ids(each) for each in found] == [[sent.body["receipt_id"]]] * 3
    assert ids(others) == []
    assert shown.body["receipt"]["status"] == "accepted"
    assert (shown.body["reason"], shown.body["isolation"]) == (reason, "alone")
    assert shown.body["tries"] == 0, "that nobody answers is not the export's failure"


async def test_what_foundry_refused_is_listed_with_its_tries(life):
    reason = "Foundry answers 400 InvalidFilePath (errorInstanceId 3f6e1c5a)."
    poisons = life.dataset.poisons
    poisons["healthkit/raw/ada/2026-01-02T12-00-00-000Z.ndjson"] = FileRefused(reason)
    async with life.running() as flow:
        sent = await flow.post(an_export(), Prefer="respond-async")
        await flow.seen.wait_for(ExportFailed)
        waits = (await asked(flow, f"/exports/{sent.body['receipt_id']}")).body
        await flow.seen.wait_for(ExportSetAside)
        aside = (await asked(flow, f"/exports/{sent.body['receipt_id']}")).body

    assert (waits["tries"], waits["isolation"], waits["reason"]) == (1, "own_file", reason)
    assert (aside["tries"], aside["isolation"], aside["reason"]) == (5, "none", reason)
    assert [each.tries for each in flow.seen.of(ExportFailed)] == [1, 2, 3, 4]
    assert {each.reason for each in flow.seen.of(ExportFailed)} == {reason}
    (told,) = flow.seen.of(ExportSetAside)
    assert (told.tries, told.reason) == (5, reason)


async def test_a_user_is_found_by_the_sub_and_only_that_user(life):
    async with life.running() as flow:
        sent = await flow.post(an_export(), token="token-of-auth0|zoe")
        await post_exports(flow, "a", "b")
        zoe = await asked(flow, "/exports?find=auth0%7Czoe")
        part = await asked(flow, "/exports?find=auth0%7Czo")
        none = await asked(flow, "/exports?find=auth0%7Czoe&status=set_aside")

    assert ids(zoe) == [sent.body["receipt_id"]]
    assert ids(part) == ids(none) == []
    assert b"zoe" not in msgspec.json.encode(zoe.body)


@pytest.mark.parametrize(
    ("status", "said"),
    [("committed", "its rows are in the dataset, in transaction ri."), ("accepted", "waits for")],
)
@pytest.mark.parametrize("order", ["replay", "discard"])
async def test_an_order_on_what_is_not_set_aside_is_refused_with_its_status(
    life, status, said, order
):
    life.dataset.down = status == "accepted"
    life.drain_seconds = 0.0
    async with life.running() as flow:
        sent = await flow.post(an_export(), Prefer="respond-async")
        id = sent.body["receipt_id"]
        if status == "committed":
            await flow.is_empty()
        answer = await asked(flow, f"/exports/{id}/{order}", "POST")
        stays = await asked(flow, f"/exports/{id}")

    assert answer.status == 409
    assert f"Export {id[:12]} is {status}" in answer.body["error"]
    assert said in answer.body["error"]
    assert stays.body["receipt"]["status"] == status


async def test_an_export_is_shown_by_its_id_or_the_beginning_of_it(life):
    async with life.running() as flow:
        (id,) = await post_exports(flow, "a")

        for asked_for in (id, id[:6], id[:1]):
            answer = await asked(flow, f"/exports/{asked_for}")
            assert (answer.status, answer.body["receipt"]["id"]) == (200, id)


async def test_a_beginning_that_several_share_shows_none_of_them(life):
    async with life.running() as flow:
        sent = await post_exports(flow, *map(str, range(17)))  # two of 17 begin with the same digit
        shared = next(id[0] for id in sent if sum(other[0] == id[0] for other in sent) > 1)
        answer = await asked(flow, f"/exports/{shared}")

    assert answer.status == 404
    assert "more than one" in answer.body["error"]


@pytest.mark.parametrize("id", ["f" * 65, "%", "*", "_", "[0-9a-f]", "a/b", "../exports", "é"])
async def test_what_is_no_id_is_found_nowhere(life, id):
    async with life.running() as flow:
        await post_exports(flow, "a")
        answer = await asked(flow, f"/exports/{id}")

    assert answer.status == 404
    assert answer.body.keys() == {"error"}


async def test_no_id_is_nobodys(life):
    async with life.running() as flow:
        await post_exports(flow, "a")
        assert (await asked(flow, "/exports/")).status == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9464", 200),
        ("localhost:9464", 200),
        ("LOCALHOST:9464", 200),
        ("[::1]:9464", 200),
        ("localhost", 200),
        ("10.1.2.3:9464", 200),  # an IP address needs no allowlist: Prometheus requests it
        ("evil.test:9464", 421),
        ("127.0.0.1.evil.test:9464", 421),
        ("evil.test", 421),
        (":9464", 421),
        ("[::1", 421),
        ("10.1.2.3.evil.test", 421),
        ("", 421),
    ],
)
async def test_a_page_in_the_browser_of_an_operator_cannot_ask(life, host, status):
    """The attacker's host name may resolve to this address, but is still a different name."""
    async with life.running() as flow:
        (id,) = await post_exports(flow, "a")
        for path in ("/exports", f"/exports/{id}"):
            answer = await asked(flow, path, host=host)
            assert answer.status == status
            assert (answer.body.keys() == {"error"}) is (status != 200)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer ", 401),
        ("Bearer wrong", 401),
        ("Bearer a-secre", 401),
        ("Bearer a-secret-and-more", 401),
        ("Bearer gehe\xefm", 401),
        ("Basic a-secret", 401),
        ("a-secret", 401),
        ("Bearer a-secret", 200),
        ("bearer  a-secret ", 200),
    ],
)
async def test_a_token_that_is_configured_must_be_brought(life, authorization, status):
    life.token = "a-secret"
    async with life.running() as flow:
        (id,) = await post_exports(flow, "a")
        for path in ("/exports", f"/exports/{id}"):
            answer = await asked(flow, path, authorization=authorization)
            assert answer.status == status
            if status == 401:
                assert answer.body == {"error": "The operator token is missing or wrong."}
                assert answer.headers["www-authenticate"] == "Bearer"


EVIL, OURS = "https://evil.test", f"http://{HOST}"


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        pytest.param("", {}, 200, id="a command"),
        pytest.param("a-secret", {}, 200, id="a command, with the token"),
        pytest.param("", {"origin": OURS}, 403, id="our page, without a token"),
        pytest.param("a-secret", {"origin": OURS}, 200, id="our page, with the token"),
        pytest.param("a-secret", {"origin": f"https://{HOST}"}, 200, id="... behind TLS"),
        pytest.param("a-secret", {"origin": EVIL}, 403, id="another page"),
        pytest.param("a-secret", {"origin": "null"}, 403, id="a page of nowhere"),
        pytest.param("a-secret", {"origin": ""}, 403, id="an empty origin"),
        pytest.param("a-secret", {"origin": f"{OURS}/"}, 403, id="an origin with a path"),
        pytest.param("a-secret", {"origin": "http://127.0.0.1:9465"}, 403, id="our neighbour"),
        pytest.param("a-secret", {"origin": "http://localhost:9464"}, 403, id="our other name"),
        pytest.param("a-secret", {"origin": f"ftp://{HOST}"}, 403, id="another scheme"),
        pytest.param(
            "a-secret", {"origin": OURS, "sec_fetch_site": "same-origin"}, 200, id="a browser"
        ),
        pytest.param(
            "a-secret", {"origin": OURS, "sec_fetch_site": "cross-site"}, 403, id="a frame"
        ),
        pytest.param("a-secret", {"origin": OURS, "sec_fetch_site": ""}, 403, id="no site"),
        pytest.param("", {"sec_fetch_site": "same-site"}, 403, id="a page that hides its origin"),
    ],
)
@pytest.mark.parametrize("order", ["{id}/replay", "{id}/discard", "replay"])
async def test_only_our_own_page_may_order_and_only_with_a_token(
    life, token, headers, status, order
):
    life.token = token
    async with life.running() as flow:
        (id,) = await post_exports(flow, "a")
        given = {"authorization": f"Bearer {token}"} | headers
        named = {name: value for name, value in given.items() if value or name in headers}
        answer = await asgi(
            flow.service.operator, "POST", f"/exports/{order.format(id=id)}", {"host": HOST} | named
        )

    is_refused_later = status == 200 and "{id}" in order  # the export is committed
    assert answer.status == (409 if is_refused_later else status)


@pytest.mark.parametrize("token", ["wrong", ""])
async def test_our_own_page_needs_the_token_for_an_order_as_for_all_else(life, token):
    life.token = "a-secret"
    async with life.running() as flow:
        headers = {"origin": OURS, "authorization": f"Bearer {token}"}
        assert (await asked(flow, "/exports/replay", "POST", **headers)).status == 401


@pytest.mark.parametrize(("token", "may"), [("", "no"), ("a-secret", "yes")])
async def test_our_page_is_told_whether_it_may_order(life, token, may):
    life.token = token
    async with life.running() as flow:
        answer = await asked(flow, "/exports", authorization=f"Bearer {token}")

    assert answer.headers["atlas-page-can-replay"] == may


@pytest.mark.parametrize(
    "query",
    [
        "status=open",
        "status=claimed",
        "status=",
        "limit=0",
        "limit=-1",
        "limit=1.5",
        "limit=many",
        "limit=",
        pytest.param(f"limit={'9' * 5_000}", id="a limit of 5,000 digits"),
        "before=0",
        "before=-3",
        "before=x",
        "before=",
        pytest.param(f"before={10**30}", id="before more than SQLite counts"),
        "find=",
        pytest.param(f"find={'a' * 256}", id="find longer than a sub"),
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused(life, query):
    async with life.running() as flow:
        await post_exports(flow, "a", "b")
        answer = await asked(flow, f"/exports?{query}")

    assert answer.status == 400
    assert answer.body == {"error": f"The value of {query.partition('=')[0]} is invalid."}


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ("", (None, 50, None, None)),
        ("?limit=1000&before=7&status=accepted&find=a%20b", ("accepted", 1_000, 7, "a b")),
        ("?limit=1000000", (None, 1_000, None, None)),
    ],
)
async def test_what_is_not_asked_for_has_a_measure(query, question):
    questions = []

    class Asked:
        async def list_entries(self, *given):
            questions.append(given)
            return JournalPage({}, ())

    guard = operator.Guard("", frozenset({"127.0.0.1"}))
    app = operator.build_application(
        operator.OperatorServices(Asked(), None, None, None, None).routes(guard),
        EventRecorder().watch,
    )
    assert (await asgi(app, "GET", f"/exports{query}", {"host": HOST})).status == 200
    assert questions == [question]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/page", 404), ("GET", "/nowhere", 404), ("POST", "/exports", 405)],
)
async def test_what_is_not_there_is_said_in_the_same_form(life, method, path, status):
    async with life.running() as flow:
        answer = await asked(flow, path, method)

    assert (answer.status, answer.body.keys()) == (status, {"error"})


FILES = ["/", *(f"/{name}" for name in KINDS if name != "page.html")]


@pytest.mark.parametrize("path", FILES)
async def test_the_page_holds_nothing_and_needs_no_token_but_a_name_of_ours(life, path):
    life.token = "a-secret"
    async with life.running() as flow:
        assert (await asked(flow, path)).status == 200
        assert (await asked(flow, path, host="evil.test")).status == 421
        assert (await asked(flow, path, "POST")).status == 405


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/exports", {}, id="data"),
        pytest.param("/nowhere", {}, id="nothing"),
        pytest.param("/exports", {"host": "evil.test"}, id="a refusal"),
        pytest.param("/exports?limit=0", {}, id="an error"),
    ],
)
async def test_every_answer_tells_a_browser_how_little_may_be_done_with_it(life, path, headers):
    async with life.running() as flow:
        told = (await asked(flow, path, **headers)).headers

    assert told["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert told["x-content-type-options"] == "nosniff"
    assert told["referrer-policy"] == "no-referrer"
    assert told["cross-origin-opener-policy"] == "same-origin"
    assert told["cross-origin-resource-policy"] == "same-origin"
    assert told["cache-control"] == "no-store"


async def test_nothing_of_it_is_public(life):
    async with life.running() as flow:
        answer = await flow.send("GET", "/exports", "token-of-ada", Host=HOST)

    assert answer.status == 404
