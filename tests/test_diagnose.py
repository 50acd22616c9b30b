"""The page that was written by hand when exports had stopped: every fault is named."""

import shutil
import sqlite3
import ssl
import subprocess
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import aiohttp
import anyio
import msgspec
import pytest
import stamina
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import TestServer

from atlas.cli.diagnose import markdown
from atlas.core.diagnosis import Diagnosis
from atlas.core.messages import Decoded, Head, User
from atlas.core.rows import Header, flatten
from atlas.diagnose import NAMES
from atlas.local.auth0 import Clock, Outage
from atlas.local.foundry.faults import CallName
from atlas.outside.network import unreached
from atlas.outside.sqlite.disk import kind
from atlas.outside.sqlite.journal import opened
from atlas.outside.sqlite.room import Bounds
from tests.certificates import self_signed
from tests.conftest import an_export
from tests.exports import NOON, TO_VERSION_2, export
from tests.standing import CLIENT_SECRET, HOST, first_failing, standing, step
from tests.test_process import COMMAND, ENVIRON, fetched, local

RAW = "healthkit/raw/auth0|ada/2025-01-01T00-00-00-000Z"
CANARY = "canary-of-a-person"
OTHER_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
async def system(tmp_path):
    async with standing(tmp_path) as found:
        yield found


def told(found: Diagnosis) -> str:
    """All of it, as a program gets it and as somebody is sent it."""
    return msgspec.json.encode(found).decode() + markdown(found)


# all is well


async def test_a_healthy_system_passes_every_step(system):
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        found = await serving.diagnosed(system.token())

    assert sent.status == 200
    assert [each.verdict for each in found.steps] == ["pass"] * 11, found
    assert found.exit_code == 0
    assert {each.number: each.name for each in found.steps} == NAMES
    assert system.states() == ["COMMITTED", "ABORTED"], "the probe leaves no row"


async def test_its_page_has_the_headings_and_the_last_upload(system):
    async with system.serving() as serving:
        sent = await serving.send(an_export(), system.token(sub="auth0|ada"))
        found = await serving.diagnosed()

    sections = {section.heading: dict(section.facts) for section in found.sections}
    assert list(sections) == [
        *("Service", "Endpoints", "Dataset target", "Authentication", "App"),
        *("Last successful upload", "Gap since", "Next steps"),
    ]
    last = sections["Last successful upload"]
    assert last["transaction"] == sent.body["transaction_rid"]
    assert last["file"].startswith(f"healthkit/raw/{last['user']}/")
    assert (last["records"], last["result"]) == ("1, and 0 rejected", "committed")
    assert sections["Gap since"]["waiting"] == "0 exports"


async def test_what_phones_were_refused_with_is_told(system):
    async with system.serving() as serving:
        for expires_in in (-60, -7_200):
            await serving.send(an_export(), system.token(expires_in=expires_in))
        found = await serving.diagnosed()

    app = next(dict(each.facts) for each in found.sections if each.heading == "App")
    assert app["refused since the start"] == "2 TOKEN_EXPIRED"


async def test_bare_settings_fail_at_nothing_and_make_nothing(system):
    found = await system.diagnosed(system.token())

    verdicts = {each.name: each.verdict for each in found.steps}
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == {"edge", "journal"}
    assert (verdicts["edge"], verdicts["journal"]) == ("unknown", "unknown")
    assert "There is no journal" in step(found, 5).reason
    assert found.exit_code == 0
    assert [each.name for each in system.folder.iterdir()] == ["foundry"]
    assert system.states() == ["ABORTED"]


async def test_without_a_token_that_step_is_unknown_and_says_how(system):
    assert step(await system.diagnosed(), 3).verdict == "unknown"
    assert "--token" in step(await system.diagnosed(), 3).to_do


# nothing that is nobody's business


async def test_neither_the_report_nor_the_json_holds_what_is_secret(system):
    sub, device = f"auth0|{CANARY}", f"{CANARY}-phone"
    system.operator_token = f"{CANARY}-operator"
    token = system.token(sub=sub, claims={"email": f"{CANARY}@a.test", "azp": CANARY})
    async with system.serving() as serving:
        ask = serving.asked
        serving.asked = lambda path, body: ask(
            path, body, authorization=f"Bearer {system.operator_token}"
        )
        await serving.send(an_export(device=device), token)
        url = f"http://user:{CANARY}@{HOST}:{system.port}"
        found = await serving.diagnosed(token, url)
        system.foundry.switches.is_role_revoked = True
        failing = await serving.diagnosed(token + "x", f"http://{HOST}:1/?key={CANARY}")

    for each in (found, failing):
        for secret in (CANARY, CLIENT_SECRET, token, token.split(".")[2], sub, "Bearer"):
            assert secret not in told(each)
    assert first_failing(failing) == 3
    assert first_failing(found) == 0


# one fault a step


def hour_off(system):
    system.foundry.switches.clock_ahead_seconds = 3_600
    system.tenant.clock = Clock(3_600)


def other_hour(system):
    system.foundry.switches.clock_ahead_seconds = -40


def outage(status):
    return lambda system: setattr(system.tenant, "outage", Outage(status=status))


def given(**changes):
    def change(system):
        for name, value in changes.items():
            setattr(system, name, value)

    return change


def switched(**switches):
    def change(system):
        for name, value in switches.items():
            setattr(system.foundry.switches, name, value)

    return change


def no_foundry(system):
    system.stack_host = ""


def faulty(call, fault="status", **more):
    return lambda system: system.fault(call, fault, count=0, **more)


def foreign(system):
    system.foundry.branches.begin(system.dataset, "master", "UPDATE", owner="foreign")


def replaced(system):
    system.committed(f"{RAW}.ndjson", b"{}\n")
    system.committed("other.txt", b"", kind="SNAPSHOT")


def schema(columns, reader):
    async def put(system):
        url = f"{system.stack_host}/api/v2/datasets/{system.dataset}/putSchema"
        fields = [{"name": name, "type": kind, "nullable": True} for name, kind in columns]
        body = {"schema": {"fieldSchemaList": fields}, "dataframeReader": reader}
        token = system.foundry.token(frozenset({"api:datasets-write"}))
        system.committed("healthkit/raw/ada/a.ndjson", await rows(system))
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.put(url, json=body, headers=headers) as answer:
                assert answer.status == 200

    return put


async def rows(system):
    """One, as Atlas writes it."""
    return flatten([b'{"uuid":"a"}'], Header("ada", "", "", "")).ndjson


def parquet(system):
    system.format = "parquet"
    system.committed("healthkit/groups/a.parquet", b"PAR1")


NOBODY = "http://nowhere.invalid"
FAULTS = [
    pytest.param(hour_off, 1, "Our clock is wrong", id="our clock is an hour off"),
    pytest.param(other_hour, 1, "clock of Foundry", id="the clock of Foundry is off"),
    pytest.param(given(issuer=""), 2, "AUTH0_DOMAIN is not set", id="no issuer"),
    pytest.param(given(issuer=f"{NOBODY}/"), 2, "nobody knows", id="no such issuer"),
    pytest.param(given(issuer=f"http://{HOST}:1/"), 2, "refuses", id="nobody listens there"),
    pytest.param(given(issuer="nonsense"), 2, "no address", id="an issuer that is no URL"),
    pytest.param(outage("html"), 2, "no JWKS (text/html)", id="HTML instead of keys"),
    pytest.param(outage("no keys"), 2, "no key that we take", id="keys of another kind"),
    pytest.param(outage("cut"), 2, "without a whole answer", id="the issuer hangs up"),
    pytest.param(outage(404), 2, "no keys at", id="another tenant's name"),
    pytest.param(outage(302), 2, "sends us on", id="the issuer redirects"),
    pytest.param(outage(503), 2, "answers 503", id="the issuer is down"),
    pytest.param(no_foundry, 6, "FOUNDRY_HOST is not set", id="no Foundry"),
    pytest.param(given(stack_host=NOBODY), 6, "nobody knows", id="no such Foundry"),
    pytest.param(given(client_secret="old"), 6, "does not accept", id="an old secret"),
    pytest.param(given(client_secret=""), 6, "SECRET is not set", id="no secret"),
    pytest.param(faulty("token", "rubbish"), 6, "what is no token", id="no token in the answer"),
    pytest.param(faulty("token", "html"), 6, "answers 502", id="HTML instead of a token"),
    pytest.param(
        switched(withheld_scope="api:datasets-write"), 6, "api:datasets-write", id="a scope"
    ),
    pytest.param(
        switched(withheld_scope="api:datasets-read"), 6, "api:datasets-read", id="another scope"
    ),
    pytest.param(switched(is_role_revoked=True), 7, "has no role", id="no role"),
    pytest.param(given(branch="develop"), 7, "the branch", id="no such branch"),
    pytest.param(faulty("dataset", "rubbish"), 7, "no Foundry", id="HTML instead of the dataset"),
    pytest.param(faulty("branch", status=503), 7, "overloaded", id="Foundry is overloaded"),
    pytest.param(foreign, 8, "somebody else", id="a foreign transaction"),
    pytest.param(switched(is_reader=True), 9, "give it a role", id="a role that only reads"),
    pytest.param(faulty("upload", status=403), 9, "cannot be put", id="no upload"),
    pytest.param(faulty("list", status=400), 10, "answers 400", id="no list of files"),
    pytest.param(replaced, 10, "stands in the dataset no more", id="a SNAPSHOT of others"),
    pytest.param(
        lambda system: system.committed(f"{RAW}.ndjson", b'{"uuid":"a"}\n'),
        *(10, "has not the 21 columns"),
        id="other rows",
    ),
    pytest.param(
        lambda system: system.committed(f"{RAW}.ndjson", b"not json\n"),
        *(10, "Line 1 of the last file is no JSON"),
        id="no rows",
    ),
    pytest.param(
        schema([("uuid", "STRING")], "PARQUET"),
        *(11, "Expected Parquet magic number"),
        id="a schema for Parquet over NDJSON",
    ),
    pytest.param(
        schema([("uuid", "LONG"), ("more", "STRING")], "CSV"),
        *(11, "with more; and uuid is LONG"),
        id="a schema of other columns",
    ),
    pytest.param(
        lambda system: system.committed("healthkit/groups/a.parquet", b"PAR"),
        *(10, "no Parquet"),
        id="no Parquet",
    ),
    pytest.param(parquet, 11, "Parquet files stand there, and no schema", id="no schema"),
]


@pytest.mark.parametrize(("fault", "number", "reason"), FAULTS)
async def test_a_fault_is_named_by_the_first_step_that_fails(system, fault, number, reason):
    found = fault(system)
    if found is not None and hasattr(found, "__await__"):
        await found
    diagnosis = await system.diagnosed()

    named = step(diagnosis, number)
    assert first_failing(diagnosis) == number, diagnosis
    assert reason in named.reason
    assert named.to_do
    assert "OPEN" not in system.states() or number == 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rubbish", "html", "torn", "refused", "lost"])
@pytest.mark.parametrize("call", [each for each in get_args(CallName) if each != "delete"])
async def test_whatever_befalls_a_call_is_a_step_and_no_crash(system, call, fault):
    system.committed(f"{RAW}.ndjson", await rows(system))
    system.fault(call, fault, count=0)
    with stamina.set_testing(True, attempts=1):
        found = await system.diagnosed()

    assert len(found.steps) == 11
    assert all(each.to_do for each in found.steps if each.verdict == "fail")


async def test_what_needs_a_step_that_fails_says_which(system):
    system.foundry.switches.is_role_revoked = True
    found = await system.diagnosed()

    assert {step(found, number).reason for number in (8, 9, 10, 11)} == {"See step 7."}
    assert step(found, 9).verdict == "unknown"


async def test_a_busy_branch_leaves_the_probe_unknown(system):
    foreign(system)
    found = await system.diagnosed()

    assert (step(found, 9).verdict, step(found, 9).reason) == ("unknown", "See step 8.")
    assert system.states() == ["OPEN"], "what is not ours is never touched"


async def test_a_certificate_that_signs_itself_is_named(system, tmp_path):
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(*self_signed(tmp_path))
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=there)
    system.issuer = f"https://{HOST}:{server.port}/"
    found = await system.diagnosed()
    await server.close()

    assert first_failing(found) == 2
    assert "signed itself" in step(found, 2).reason
    assert "SSL_CERT_FILE" in step(found, 2).to_do


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (18, "signed itself"),
        (20, "not known here"),
        (10, "has expired"),
        (9, "not valid yet"),
        (62, "another name"),
        (1, "not believed"),
    ],
)
def test_a_certificate_is_refused_by_kind(code, reason):
    error = ssl.SSLCertVerificationError(1, CANARY)
    error.verify_code = code
    key = ConnectionKey("a.test", 443, True, True, None, None, None)
    amiss = unreached(
        aiohttp.ClientConnectorCertificateError(key, error), "https://a.test", "AUTH0_DOMAIN"
    )

    assert reason in str(amiss)
    assert CANARY not in str(amiss)


async def test_a_415_is_remembered_and_told(system):
    system.foundry.switches.is_strict_about_types = True
    found = await system.diagnosed()

    assert dict(step(found, 9).evidence)["Content-Type"] == "application/octet-stream"


async def test_a_stack_that_lists_no_transactions_is_no_failure(system):
    system.fault("transactions", "status", status=400, count=0)
    found = await system.diagnosed()

    assert step(found, 8).verdict == "pass"
    assert found.exit_code == 0


async def test_an_open_transaction_is_found_without_the_list(system):
    system.fault("transactions", "status", status=400, count=0)
    foreign(system)

    assert first_failing(await system.diagnosed()) == 8


async def test_a_file_that_somebody_took_out_on_purpose_is_no_failure(system):
    system.committed(f"{RAW}.ndjson", b"{}\n")
    branches = system.foundry.branches
    removal = branches.begin(system.dataset, "master", "DELETE")
    branches.remove(removal, f"{RAW}.ndjson")
    branches.commit(removal)

    assert step(await system.diagnosed(), 10).verdict == "pass"


async def test_old_json_files_are_counted_and_no_failure(system):
    system.committed(f"{RAW}.json", b"[]")
    found = await system.diagnosed()

    assert dict(step(found, 10).evidence)["files"] == "1 .json"
    assert "--remove-old-json" in step(found, 10).to_do
    assert found.exit_code == 0


# a token


TOKENS = [
    pytest.param({}, "form", "no JWT", id="opaque"),
    pytest.param({"claims": {"aud": "other"}}, "aud", "another audience", id="another audience"),
    pytest.param({"claims": {"aud": None}}, "aud", "no audience", id="no audience"),
    pytest.param({"claims": {"iss": "https://b.test/"}}, "iss", "another issuer", id="a tenant"),
    pytest.param({"claims": {"iss": "no slash"}}, "iss", "no slash", id="no slash"),
    pytest.param({"expires_in": -7_200}, "exp", "expired 2 hours ago", id="expired"),
    pytest.param({"claims": {"exp": None}}, "exp", "never expires", id="no end"),
    pytest.param({"claims": {"exp": "soon"}}, "exp", "never expires", id="an end that is text"),
    pytest.param({"claims": {"nbf": 4e9}}, "nbf", "not valid yet", id="not yet"),
    pytest.param({"claims": {"iat": 4e9}}, "iat", "of the future", id="of the future"),
    pytest.param({"key": "stranger"}, "kid", "no key of this name", id="an unknown kid"),
    pytest.param({"header": {"kid": None}}, "kid", "names no key", id="no kid"),
    pytest.param({"header": {"typ": "logout+jwt"}}, "typ", "another kind", id="another kind"),
    pytest.param({"claims": {"nonce": "n"}}, "kind", "ID token", id="an ID token"),
    pytest.param(
        {"claims": {"at_hash": "h", "aud": "app"}}, "kind", "ID token", id="an ID token 2"
    ),
    pytest.param({"claims": {"cnf": {"jkt": "k"}}}, "cnf", "DPoP", id="bound to a key"),
    pytest.param({"sub": None}, "sub", "names nobody", id="no sub"),
]


@pytest.mark.parametrize(("wish", "name", "reason"), TOKENS)
async def test_a_token_is_taken_apart_and_the_first_bad_claim_is_named(system, wish, name, reason):
    if wish.get("claims", {}).get("iss") == "no slash":
        wish = {"claims": {"iss": system.issuer.rstrip("/")}}
    token = system.token(**wish) if wish else "opaque-and-no-jwt"
    found = await system.diagnosed(token)

    assert first_failing(found) == 3
    assert step(found, 3).reason.startswith(f"{name}: ")
    assert reason in step(found, 3).reason
    assert dict(step(found, 3).evidence)[name].startswith("BAD: ")
    assert step(found, 3).to_do


@pytest.mark.parametrize(
    ("part", "name"),
    [(0, "form"), (1, "form"), (2, "signature")],
    ids=["the header", "the claims", "the signature"],
)
async def test_a_token_that_was_cut_on_its_way_is_told_so(system, part, name):
    parts = system.token().split(".")
    parts[part] = parts[part][: len(parts[part]) // 2 + 1]
    found = await system.diagnosed(".".join(parts))

    assert step(found, 3).reason.startswith(f"{name}: ")


async def test_an_encrypted_or_endless_token_is_told_so(system):
    assert "JWE" in step(await system.diagnosed("a.b.c.d.e"), 3).reason
    assert "longer" in step(await system.diagnosed("a" * 20_000), 3).reason


async def test_all_claims_are_looked_at_even_when_the_first_is_bad(system):
    token = system.token(expires_in=-7_200, claims={"aud": "other", "nonce": "n"}, sub=None)
    evidence = dict(step(await system.diagnosed(token), 3).evidence)

    bad = [name for name, value in evidence.items() if value.startswith("BAD")]
    assert bad == ["kind", "aud", "exp", "sub"]
    assert evidence["signature"].startswith("ok")


async def test_a_required_scope_is_looked_for(system):
    system.required_scope = "write:healthkit"
    without = await system.diagnosed(system.token())
    with_it = await system.diagnosed(system.token(claims={"scope": "openid write:healthkit"}))

    assert "required scope" in step(without, 3).reason
    assert step(with_it, 3).verdict == "pass"


async def test_a_token_whose_keys_are_not_to_be_had_is_unknown_unless_it_is_bad_anyway(system):
    token, bad = system.token(), system.token(claims={"aud": "other"})
    system.tenant.outage = Outage()

    assert step(await system.diagnosed(token), 3).verdict == "unknown"
    assert step(await system.diagnosed(bad), 3).verdict == "fail"


# the edge


def proxied(limit: int = 2**40, server: str = "nginx", status: int = 413, **health: object):
    """Atlas behind something that takes bodies up to a limit."""

    async def living(_request):
        return web.json_response({"service": "atlas", "version": "9.9"} | health)

    async def ready(_request):
        why = health.get("not_ready")
        check = {"ok": why is None} | ({"reason": why} if why else {})
        return web.json_response({"checks": {"journal": check}}, status=503 if why else 200)

    async def export(request):
        if request.content_length > limit:
            if status == 0:
                request.transport.abort()
            return web.Response(status=status or 500, text="<html>", headers={"Server": server})
        id = {"X-Correlation-Id": request.headers["X-Correlation-Id"]}
        return web.json_response({"error": {"code": "UNAUTHORIZED"}}, status=401, headers=id)

    app = web.Application(client_max_size=2**30)
    app.router.add_get("/health", living)
    app.router.add_get("/health/ready", ready)
    app.router.add_post("/api/v1/healthkit/export", export)
    return app


def answering(status: int, body: str = "<html>", **headers: str):
    async def answer(_request):
        return web.Response(status=status, text=body, headers=headers, content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{anywhere:.*}", answer)
    return app


MIB = 1024 * 1024
FRONTS = [
    pytest.param(proxied(MIB), "refuses bodies of 2 MiB (413)", "client_max_body_size", id="1m"),
    pytest.param(proxied(10 * MIB), "refuses bodies of 32 MiB", "32m", id="10m"),
    pytest.param(proxied(MIB, status=502), "502 is not its answer", "proxy", id="a proxy's 502"),
    pytest.param(proxied(MIB, status=0), "connection is cut", "limit", id="cut off"),
    pytest.param(proxied(not_ready="It is full."), "can accept nothing", "step 5", id="not ready"),
    pytest.param(answering(200), "it is not Atlas", "--url", id="a page"),
    pytest.param(answering(404), "answers 404", "--url", id="nothing there"),
    pytest.param(
        answering(502, Server="nginx"), "does not reach Atlas", "port", id="Atlas is down"
    ),
    pytest.param(
        answering(301, Location="https://b.test/health"),
        "sends us on to b.test",
        "no redirect",
        id="a redirect",
    ),
]


@pytest.mark.parametrize(("app", "reason", "to_do"), FRONTS)
async def test_what_stands_in_front_of_atlas_is_named(system, app, reason, to_do):
    async with TestServer(app) as server:
        found = await system.diagnosed(url=str(server.make_url("")))

    assert first_failing(found) == 4
    assert reason in step(found, 4).reason
    assert to_do in step(found, 4).to_do


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://{HOST}:1", "refuses"),
        (NOBODY, "nobody knows"),
        ("nonsense", "no address"),
        ("ftp://a.test", "no address"),
        ("http://", "no address"),
        ("http://a.test:port", "no address"),
    ],
)
async def test_an_address_where_nobody_is_is_named(system, url, reason):
    found = await system.diagnosed(url=url)

    assert first_failing(found) == 4
    assert reason in step(found, 4).reason


async def test_a_proxy_that_lets_all_through_is_no_failure(system):
    async with TestServer(proxied()) as server:
        found = await system.diagnosed(url=str(server.make_url("")))

    assert step(found, 4).verdict == "pass"
    assert dict(step(found, 4).evidence)["version"] == "9.9"


# the journal


def lying(folder):
    """What lies there but for the stand-ins, byte for byte."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@asynccontextmanager
async def kept(system, count=1, aside=0):
    with opened(system.journal, Bounds(free_bytes=0)) as journal:
        for number in range(count):
            await journal.intake.append(export(number))
        for number in range(aside):
            head = Head(User("auth0|ada"), "", "", "")
            original = Decoded(str(number), head, b"{}")
            await journal.aside.keep(original, str(number), NOON)
        yield journal


def changed(statement):
    def change(system):
        with closing(sqlite3.connect(system.journal)) as db:
            db.execute(statement)
            db.commit()

    return change


def torn(system):
    text = bytearray(system.journal.read_bytes())
    text[4096:12288] = bytes(8192)
    system.journal.write_bytes(text)


JOURNALS = [
    pytest.param(changed("PRAGMA user_version = 99"), "newer Atlas", id="of a newer version"),
    pytest.param(torn, "damaged", id="damaged"),
    pytest.param(lambda system: system.journal.write_text("text" * 999), "none", id="a text"),
    pytest.param(
        changed("UPDATE total SET exports = exports + 1"), "does not balance", id="unbalanced"
    ),
    pytest.param(given(journal_keys=(OTHER_KEY,)), "key does not open", id="another key"),
    pytest.param(
        lambda system: system.journal.with_name("journal.db.key").unlink(), "key", id="no key"
    ),
    pytest.param(
        given(journal_bounds={"free_bytes_min": 2**60}), "disk of the journal", id="a full disk"
    ),
    pytest.param(given(journal_bounds={"exports_max": 1}), "journal is full", id="full"),
    pytest.param(
        lambda system: shutil.copy(system.journal, f"{system.journal}.damaged-20260101"),
        *("was damaged",),
        id="was damaged before",
    ),
]


@pytest.mark.parametrize(("fault", "reason"), JOURNALS)
async def test_what_is_wrong_with_a_journal_is_named_and_nothing_is_changed(system, fault, reason):
    async with kept(system):
        pass
    fault(system)
    before = lying(system.folder)
    found = await system.diagnosed()

    assert first_failing(found) == 5, step(found, 5)
    assert reason in step(found, 5).reason
    assert step(found, 5).to_do
    assert lying(system.folder) == before


async def test_a_journal_on_a_network_is_named(system, monkeypatch):
    async with kept(system):
        pass
    device = system.folder.stat().st_dev
    mounts = system.folder / "mountinfo"
    mounts.write_text(f"9 1 {device >> 8 & 0xFFF}:{device & 0xFF} / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(kind, "MOUNTS", mounts)
    found = await system.diagnosed()

    assert first_failing(found) == 5
    assert "over a network" in step(found, 5).reason


async def test_what_is_set_aside_waits_for_a_person(system):
    async with kept(system, count=0, aside=2):
        pass
    found = await system.diagnosed()

    assert first_failing(found) == 5
    assert "2 exports are set aside" in step(found, 5).reason
    assert "atlas exports list --status set_aside" in step(found, 5).to_do
    assert dict(step(found, 5).evidence)["set aside: it crashes a stage"] == "2"


async def test_exports_that_wait_while_nothing_is_committed_are_a_gap(system):
    async with kept(system, count=3):
        pass
    found = await system.diagnosed()

    assert first_failing(found) == 10
    assert step(found, 10).reason.startswith("3 exports wait, the oldest for ")
    assert "atlas serve" in step(found, 10).to_do


async def test_exports_that_wait_for_a_moment_are_no_gap(system):
    async with kept(system, count=3):
        pass
    found = await system.diagnosed(now=lambda: NOON + timedelta(minutes=14))

    assert step(found, 10).verdict == "pass"


async def test_what_stands_in_the_log_only_is_seen_too_and_the_log_is_left_alone(system, tmp_path):
    async with kept(system, count=4):
        copy = tmp_path / "killed"
        copy.mkdir()
        for file in tmp_path.iterdir():
            if file.is_file():
                shutil.copy(file, copy)
    assert (copy / "journal.db-wal").stat().st_size > 0
    before = lying(copy)
    found = await replace(system, folder=copy).diagnosed()

    assert dict(step(found, 5).evidence)["waiting"] == "4 of 1,000,000 exports"
    assert lying(copy) == before


async def test_an_owner_that_does_not_answer_is_named_and_its_branch_left_alone(system):
    async with kept(system):
        found = await system.diagnosed(is_held=True)

    assert first_failing(found) == 5
    assert "does not answer" in step(found, 5).reason
    assert "see step 5" in step(found, 9).reason
    assert system.states() == []


async def test_a_journal_that_is_taken_from_under_a_service_is_named(system):
    async with system.serving() as serving:
        system.journal.unlink()
        found = await serving.diagnosed()

    assert first_failing(found) == 5
    assert "cannot be looked at" in step(found, 5).reason


async def test_a_large_file_is_not_read_back(system):
    system.committed(f"{RAW}.ndjson", b" " * 5_000_000)
    found = await system.diagnosed()

    assert step(found, 10).verdict == "pass"
    assert dict(step(found, 10).evidence)["read back"] == "nothing: it has 5,000,000 bytes"


async def test_a_journal_of_an_older_version_is_seen_and_not_converted(system):
    async with kept(system, count=2):
        pass
    with closing(sqlite3.connect(system.journal)) as db:
        db.executescript(TO_VERSION_2)
    before = lying(system.folder)
    found = await system.diagnosed(now=lambda: NOON)

    assert dict(step(found, 5).evidence)["waiting"] == "2 of 1,000,000 exports"
    assert dict(step(found, 5).evidence)["note"] == "an older one (v2)"
    assert lying(system.folder) == before


async def test_a_transaction_of_ours_is_known_as_ours(system):
    opened_now = system.foundry.branches.begin(system.dataset, "master", "APPEND")
    async with kept(system) as journal:
        await journal.outbox.begun(opened_now.rid)
    found = await system.diagnosed(now=lambda: datetime.now(UTC))

    assert step(found, 8).verdict == "pass"
    assert dict(step(found, 8).evidence)["whose"] == "ours"
    assert step(found, 9).verdict == "unknown"
    assert system.states() == ["OPEN"]


# by those who run it


@pytest.mark.parametrize(
    "body",
    [b"nonsense", b"[]", b'{"token": 7}', b'{"tokn": "t"}', b"\xff", b'"' + b"x" * 70_000 + b'"'],
)
async def test_a_question_that_cannot_be_meant_is_refused(system, body):
    async with system.serving() as serving:
        answer = await serving.asked("/diagnose", body)

    assert answer.status in {400, 413}
    assert answer.body.keys() == {"error"}


async def test_whoever_has_not_the_operators_token_cannot_ask(system):
    system.operator_token = "a-secret"
    async with system.serving() as serving:
        answers = [await serving.asked(path) for path in ("/diagnose", "/diagnose/remove-old-json")]

    assert [answer.status for answer in answers] == [401, 401]
    assert system.states() == []


async def test_old_json_files_are_taken_out_in_one_transaction_and_nothing_else(system):
    for number in range(3):
        system.committed(f"{RAW}-{number}.json", b"[]")
    system.committed("elsewhere/a.json", b"[]")
    async with system.serving() as serving:
        await serving.send(an_export(), system.token())
        answer = await serving.asked("/diagnose/remove-old-json")
        found = await serving.diagnosed()

    assert (answer.status, answer.body["files"]) == (200, 3)
    view = system.foundry.branches.branch(system.dataset, "master").view
    assert sorted(path.rpartition(".")[2] for path in view) == ["json", "ndjson"]
    assert found.exit_code == 0


async def test_a_probe_that_fails_halfway_leaves_nothing_open(system):
    system.fault("upload", "status", status=403)
    await system.diagnosed()

    assert system.states() == ["ABORTED"]
    with anyio.fail_after(5):
        assert step(await system.diagnosed(), 9).verdict == "pass"


# on the command line


async def command(system, *arguments, **environ):
    """`atlas diagnose` in an empty folder, in a process of its own."""
    folder = system.folder / "empty"
    folder.mkdir(exist_ok=True)
    settings = system.settings()
    named = {
        "ATLAS_JOURNAL": f"sqlite:///{system.journal}",
        "AUTH0_ISSUER": settings.auth0.issuer,
        "FOUNDRY_HOST": settings.foundry.host,
        "FOUNDRY_CLIENT_ID": "local",
        "FOUNDRY_CLIENT_SECRET": settings.foundry.client_secret,
        "ATLAS_FILE_FORMAT": settings.foundry.file_format,
        "PORT": str(system.port),
    }
    return await anyio.run_process(
        [COMMAND, "diagnose", *arguments], env=ENVIRON | named | environ, cwd=folder, check=False
    )


@pytest.mark.slow
async def test_on_bare_settings_it_makes_nothing_and_ends_with_0(system):
    ended = await command(system, "--token", f"Bearer {system.token()}")

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().startswith(" 1  clock           pass")
    for heading in ("Service", "Gap since", "Next steps"):
        assert f"\n{heading}\n" in ended.stdout.decode()
    assert b"\x1b" not in ended.stdout, "plain where it is no terminal"
    assert {each.name for each in system.folder.iterdir()} == {"foundry", "empty"}
    assert list((system.folder / "empty").iterdir()) == []


@pytest.mark.slow
async def test_the_exit_code_names_the_first_step_that_fails(system):
    system.foundry.switches.is_role_revoked = True
    ended = await command(system, "--json", "--report", "reports/today.md")
    found = msgspec.json.decode(ended.stdout, type=Diagnosis)
    report = (system.folder / "empty" / "reports" / "today.md").read_text()

    assert (ended.returncode, found.exit_code) == (17, 17)
    assert report.startswith("# Atlas ")
    assert "## 7 dataset: fail" in report
    assert system.client_secret not in report + ended.stdout.decode()


@pytest.mark.slow
async def test_with_no_settings_at_all_the_issuer_is_the_first_to_fail(system):
    ended = await command(system, AUTH0_ISSUER="", FOUNDRY_HOST="")

    assert ended.returncode == 12
    assert b"AUTH0_DOMAIN is not set" in ended.stdout
    assert b"FOUNDRY_HOST is not set" in ended.stdout


@pytest.mark.slow
async def test_an_owner_that_hangs_is_looked_at_from_outside(system):
    with opened(system.journal, Bounds(free_bytes=0), owner=f"{HOST}:1"):
        ended = await command(system)

    assert ended.returncode == 15
    assert b"does not answer" in ended.stdout
    assert system.states() == []


@pytest.mark.slow
async def test_old_json_files_are_taken_out_after_it_was_asked(system):
    system.committed(f"{RAW}.json", b"[]")
    not_sure = await command(system, "--remove-old-json")
    assert (not_sure.returncode, system.states()) == (130, ["COMMITTED"])
    assert b"1 .json files" in not_sure.stderr
    sure = await command(system, "--remove-old-json", "--yes")
    again = await command(system, "--remove-old-json", "--yes")

    assert sure.stdout.startswith(b"1 files taken out, in ri.foundry.main.transaction.")
    assert (again.returncode, again.stdout) == (
        0,
        b"There are no .json files under healthkit/raw.\n",
    )
    assert not system.foundry.branches.branch(system.dataset, "master").view


@pytest.mark.slow
async def test_a_schema_for_parquet_is_put_after_it_was_asked(system):
    ndjson = await command(system, "--fix-schema", "--yes")
    parquet(system)
    before = await command(system)
    not_sure = await command(system, "--fix-schema")
    fixed = await command(system, "--fix-schema", "--yes")
    after = await command(system)

    assert (ndjson.returncode, not_sure.returncode) == (78, 130)
    assert b"does harm" in ndjson.stderr
    assert (before.returncode, fixed.returncode, after.returncode) == (21, 0, 0)
    assert b"The schema is that of our rows" in after.stdout


@pytest.mark.slow
async def test_a_failure_of_mending_is_one_line(system):
    system.foundry.switches.is_role_revoked = True
    ended = await command(system, "--remove-old-json", "--yes")

    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert b"has no role" in ended.stderr


@pytest.mark.slow
def test_a_running_service_walks_itself_and_removes_what_is_old(tmp_path):
    with local(tmp_path) as running:
        status, _ = running.post("a", "wait=20")
        token = fetched(f"http://{HOST}:{running.port + 2}/stand-in/tokens").decode()
        arguments = ["diagnose", "--token", token, "--json"]
        ended = run(tmp_path, *arguments, ATLAS_JOURNAL=f"sqlite:///{running.journal}")
        nothing = run(
            *(tmp_path, "diagnose", "--remove-old-json"),
            ATLAS_JOURNAL=f"sqlite:///{running.journal}",
            FOUNDRY_HOST=f"http://{HOST}:{running.port + 1}",
            FOUNDRY_CLIENT_ID="local",
            FOUNDRY_CLIENT_SECRET=CLIENT_SECRET,
        )
        states = [each["status"] for each in running.stand_in()["transactions"]]
        complaints = running.stand_in()["complaints"]

    found = msgspec.json.decode(ended.stdout, type=Diagnosis)
    assert (status, ended.returncode) == (200, 0), ended
    assert [each.verdict for each in found.steps] == ["pass"] * 11, found
    assert token not in ended.stdout + ended.stderr
    assert (states, complaints) == (["COMMITTED", "ABORTED"], [])
    assert nothing.stdout == "There are no .json files under healthkit/raw.\n"


def run(folder, *arguments, **environ):
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
