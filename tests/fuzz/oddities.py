"""Odd values of JSON, bytes, headers, claims and paths, to replace valid ones."""

from typing import Any

from atlas.core.identifiers import API_PREFIX

CANARY = "canary-of-ada"

VALUES = [
    b"null",
    b"true",
    b"0",
    b"-0",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"9" * 400,
    b"9" * 5_000,
    b"9223372036854775808",
    b"01",
    b"NaN",
    b'""',
    b'" "',
    b"[]",
    b"{}",
    b"[[]]",
    b'{"":""}',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\x"',
    b'"' + b"x" * 10_000 + b'"',
    b"[" * 70 + b"]" * 70,
    b"[" * 5_000 + b"]" * 5_000,
    b"[" * 20_000,
    b'{"a":' * 1_500 + b"1" + b"}" * 1_500,
    b"",
]
BYTES = [b"\0", b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf", b"\xff", b"\xc3", b'"', b"\\", b"{", b"}"]
BYTES += [b"[", b"]", b",", b":", b"=", b"-_", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x0b\x0c"]
TEXTS = [b"", b" ", b"0", b"-1", b"1e9", b"9" * 30, b"\xff\xfe", b"\xc3\xa9", b"%00", b"%ff", b"%"]
TEXTS += [
    b"%ED%A0%80",
    b"a" * 300,
    b"a" * 6_000,
    b"," * 2_000,
    b" ," * 1_000 + b"x",
    b'"',
    b"=",
    b";",
]
TEXTS += [
    b"\x80\x9f",
    b"'--",
    b"../..",
    b"{{7*7}}",
    b"\xe2\x80\xa8",
    b"x\ty",
    b"null",
    b"*/*",
    b"q=;",
]
NAMES: dict[str, list[bytes]] = {
    "content-type": [b"text/plain", b"application/x-ndjson", b"application/json; charset=utf-7"],
    "content-encoding": [b"gzip", b"deflate", b"zstd", b"br", b"gzip, gzip", b"identity", b"GZIP"],
    "prefer": [
        b"wait=0",
        b"wait=-1",
        b"wait=1e9",
        b'wait="0"',
        b"respond-async, wait",
        b"wait=\xb2",
    ],
    "idempotency-key": [b"k", CANARY.encode(), b"a b", b"\xe9", b"x" * 256],
    "x-correlation-id": [b"mine", b"x" * 129, b"\xe9", b"a\tb"],
    "traceparent": [b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"ff-", b"00-" + b"0" * 32],
    "accept": [b"application/problem+json", b"text/html", b"application/problem+json;q=0"],
    "atlas-device": [CANARY.encode(), b"Ada%E2%80%99s", b"%FF", b"\xe2\x80\x99"],
    "atlas-timestamp": [b"2026-01-02T12:00:00Z", b"%", b"\xf0\x9f\x98\x80"],
    "atlas-record-count": [b"1", b"99999999999", b"\xb2", b"+1", b"1_0"],
    "expect": [b"200-ok"],
    "origin": [b"null", b"https://canary.test"],
    "range": [b"bytes=0-1"],
    "if-none-match": [b"*"],
    "upgrade": [b"h2c"],
    "forwarded": [b"for=canary"],
    "x-forwarded-proto": [b"\xff"],
    "cookie": [b"a=b"],
}
CLAIMS = ["sub", "iss", "aud", "exp", "nbf", "iat", "scope", "permissions", "cnf", "nonce", "azp"]
HEADER_PARAMETERS = ["typ", "kid", "crit", "jku", "b64", "zip", "cty"]
ODD: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "x", "\0", "é" * 50, [], [[]], {}, ["x", 7]]
PATHS = ["/", "/health", "/health/live", "/health/ready", "/openapi.json", f"{API_PREFIX}/exports"]
PATHS += [
    f"{API_PREFIX}/exports/{id}"
    for id in ("x", "whole-x", "%00", "%FF", "..", "%2e%2e%2f", "a" * 900)
]
PATHS += [
    f"{API_PREFIX}/exports?{query}"
    for query in ("limit=0", "limit=%00", "cursor=%FF", "key=%ED%A0%80")
]
PATHS += [
    f"{API_PREFIX}/exports?{query}" for query in ("&&&=", "limit=1&limit=x", "cursor=-1", "key=")
]
PATHS += [
    "//",
    "/*",
    f"{API_PREFIX}/export/",
    f"{API_PREFIX}/export/batch/x",
    "/%",
    "/%zz",
    "/\xff",
    "/a b",
    "*",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get"]
