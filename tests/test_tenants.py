"""No user sees another's data, whatever their ids are."""

import hashlib
import posixpath
import re
import unicodedata
from functools import partial
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.core import identifiers
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.local.auth0 import TokenRequest
from tests.conftest import ServiceHarness, an_export
from tests.support.exports import NOON
from tests.support.token_forgery import SUB, a_scene

ADA = "auth0|687a56be9811378240321ed6"


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(None)


ALIKE = [
    pytest.param("auth0|ada", "auth0|Ada", id="a capital"),
    pytest.param("auth0|ada", "auth0|ada.", id="a dot"),
    pytest.param("auth0|ada", "auth0|ada ", id="a space"),
    pytest.param("auth0|ada", "auth0|ada\0", id="NUL"),
    pytest.param("auth0|ada", "auth0|\u0430da", id="Cyrillic"),
    pytest.param("auth0|ada", "auth0%7Cada", id="as in an address"),
    pytest.param("auth0|ada", "eve/../auth0|ada", id="a way round"),
    pytest.param("auth0|zo\xeb", "auth0|zoe\u0308", id="NFC and NFD"),
    pytest.param("a" * 1_024, "a" * 1_023 + "b", id="1 KB"),
    pytest.param(".", "..", id="dots"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_whoever_is_called_almost_the_same_is_somebody_else(life, one, other):
    async with a_scene(life) as scene:
        flow, tokens = (
            scene.flow,
            [scene.tenant.issue_token(TokenRequest(sub=sub)) for sub in (one, other)],
        )
        first, second = [
            (await flow.post(an_export(), token=token, idempotency_key="k")).body
            for token in tokens
        ]
        strange = await flow.receipt(first["receipt_id"], tokens[1])
        listed = await flow.send("GET", f"{API_PREFIX}/exports?key=k", tokens[1])

    assert (first["replayed"], second["replayed"]) == (False, False)
    assert (strange.status, strange.body["error"]["code"]) == (404, "NOT_FOUND")
    assert [each["receipt_id"] for each in listed.body["receipts"]] == [second["receipt_id"]]
    folders = {posixpath.dirname(path) for path in life.dataset.files()}
    assert (len(folders), {posixpath.dirname(each) for each in folders}) == (2, {"healthkit/raw"})


async def test_the_key_and_the_receipt_of_anothers_stream_are_not_seen(life):
    async with a_scene(life) as scene:
        flow, media = scene.flow, "application/x-ndjson"
        adas, eves = (scene.tenant.issue_token(TokenRequest(sub=sub)) for sub in (ADA, SUB))
        more = {"content_type": media, "idempotency_key": "k"}
        sent = await flow.send("POST", f"{API_PREFIX}/export", adas, b'{"uuid":"a"}\n', **more)
        seen = [await flow.receipt(sent.body["receipt_id"], each) for each in (adas, eves)]
        listed = await flow.send("GET", f"{API_PREFIX}/exports?key=k", eves)

    assert (sent.status, [each.status for each in seen]) == (200, [200, 404])
    assert (listed.body["receipts"], "receipt_id" in listed.body) == ([], False)


CHANGES = [
    str.upper,
    str.lower,
    str.strip,
    quote,
    unquote,
    posixpath.normpath,
    *(partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")),
    *("{}.".format, "{} ".format, "{}/".format, "{}\0".format, "../{}".format, "~{}".format),
]
PIECES = ["..", ".", "/", "\\", "%", "%2E", "%2F", "\0", "~", " ", "|", "auth0", "ada", "\xeb"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LONG = st.builds(str.__mul__, TEXTS, st.integers(100, 200))
SUBS = st.lists(st.sampled_from(PIECES) | TEXTS, min_size=1, max_size=6).map("".join) | LONG


@settings(derandomize=True, deadline=None)
@given(sub=SUBS, change=st.sampled_from(CHANGES))
def test_a_folder_is_one_users_and_stands_where_folders_stand(sub, change):
    other = change(sub)
    folders = [identifiers.escape_user(User(each)) for each in (sub, other)]
    assert (folders[0] == folders[1]) == (sub == other)
    for each, folder in zip((sub, other), folders, strict=True):
        path = identifiers.build_path(User(each), NOON)
        assert path == f"healthkit/raw/{folder}/2026-01-02T12-00-00-000Z.ndjson"
        assert posixpath.normpath(path) == path
        assert re.fullmatch(r"[A-Za-z0-9|@._%~-]{1,200}", folder)


@settings(derandomize=True, deadline=None)
@given(sub=SUBS)
def test_a_folder_tells_whose_it_is_so_that_no_two_users_share_one(sub):
    """The encoding is reversible, so two ids never share a folder; a digest shortens long ones.

    On a case-insensitive disk two folders may coincide; paths in a dataset are case-sensitive.
    """
    folder = identifiers.escape_user(User(sub))
    if not folder.startswith("~"):
        assert unquote_to_bytes(folder) == sub.encode()
    else:
        assert folder == f"~{hashlib.sha256(sub.encode()).hexdigest()}"


@pytest.mark.parametrize(
    "sub",
    [
        pytest.param(ADA, id="a password"),
        pytest.param("google-oauth2|107353926327440051234", id="Google"),
        pytest.param("apple|001234.0123456789abcdef0123456789abcdef.1234", id="Apple"),
        pytest.param("samlp|acme-corp|ada.lovelace@example.com", id="SAML"),
        pytest.param("waad|Zx_9-yQ", id="Azure"),
        pytest.param("machine@clients", id="a machine"),
        pytest.param("a" * 200, id="as long as may be"),
    ],
)
def test_the_folder_of_a_plain_user_is_called_as_he_is(sub):
    assert identifiers.escape_user(User(sub)) == sub
