"""Finds all invalid values and contradictions of the settings, and describes each in one line."""

from collections.abc import Iterator
from difflib import get_close_matches
from math import isfinite
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from atlas.settings.addresses import is_loopback, is_url, normalize_url
from atlas.settings.sections import Settings

VALUE_ERRORS = {
    "foundry.dataset_rid": "must be the RID of a dataset: ri.foundry.main.dataset.<uuid>.",
    "stream.rid": "must be the RID of a stream: ri.foundry.main.dataset.<uuid>.",
    "operator.listen": "must be HOST:PORT.",
    "operator.token": "must be printable ASCII without spaces: it is sent in a header.",
    "auth0.issuer": "must be one string; commas separate several issuers.",
    "auth0.audience": "must be one string, not empty; commas separate several audiences.",
    "auth0.algorithms": "must be RS256, PS256 or both, separated by commas.",
    "auth0.dpop_algorithms": "must be some of ES256, ES384, ES512, RS256, PS256 and Ed25519.",
    "journal.keys": (
        "must be one key, or several separated by commas: 32 bytes each, as base64. "
        "To create one: head -c 32 /dev/urandom | base64"
    ),
}


class InvalidValue(NamedTuple):
    """An invalid setting. `kind` is its type; None for an unknown setting."""

    keys: tuple[str, ...]
    kind: Any
    value: object

    @property
    def path(self) -> str:
        return ".".join(key if key.isprintable() else repr(key) for key in self.keys)


class Contradiction(NamedTuple):
    """Settings that are not valid together."""

    message: str
    paths: tuple[str, ...]


def list_settings(struct: Any = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and type of each setting."""
    for field in msgspec.structs.fields(struct):
        if is_struct(field.type):
            yield from list_settings(field.type, f"{prefix}{field.encode_name}.")
        else:
            yield f"{prefix}{field.encode_name}", field.type


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def remove_invalid(
    values: dict[str, Any], struct: Any = Settings, section: tuple[str, ...] = ()
) -> Iterator[InvalidValue]:
    """Remove the values that are not valid, and yield each."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in list(values.items()):
        keys, kind = (*section, key), kinds.get(key)
        if is_struct(kind) and isinstance(value, dict):
            yield from remove_invalid(value, kind, keys)
        elif kind is None or not is_convertible(value, kind):
            yield InvalidValue(keys, kind, values.pop(key))


def is_convertible(value: object, kind: Any) -> bool:
    try:
        converted = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return False
    return not isinstance(converted, float) or isfinite(converted)


def describe_invalid(invalid: InvalidValue, variable: str) -> str:
    """Describe an invalid setting in one line, by its variable if it comes from one."""
    path, kind, value = invalid.path, invalid.kind, invalid.value
    name = variable or path
    if kind is None:
        return f"{name} is not a setting of Atlas.{suggest(path)}"
    info = msgspec.inspect.type_info(kind)
    while isinstance(info, msgspec.inspect.Metadata):  # a description
        info = info.type
    match info:
        case msgspec.inspect.LiteralType(values=words):
            *others, last = map(str, words)
            return f"{name} must be {', '.join(others)} or {last}."
        case msgspec.inspect.BoolType():
            return f"{name} must be true or false."
        case msgspec.inspect.IntType() if not is_convertible(value, int):
            return f"{name} must be an integer."
        case msgspec.inspect.FloatType() if not is_convertible(value, float):
            return f"{name} must be a number."
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType() as number:
            bounds = {"at least": number.ge, "more than": number.gt, "at most": number.le}
            limits = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
            return f"{name} must be {' and '.join(limits)}."
        case msgspec.inspect.StrType() | msgspec.inspect.VarTupleType() if is_text(value, info):
            return f"{name} {VALUE_ERRORS.get(path, 'is empty.')}"
    return f"{name} {VALUE_ERRORS.get(path, 'has the wrong type.')}"


def is_text(value: object, info: msgspec.inspect.Type) -> bool:
    """True if only a pattern makes a text, or a list of texts, invalid."""
    is_single = isinstance(info, msgspec.inspect.StrType)
    return is_convertible(value, str if is_single else tuple[str, ...])


def suggest(path: str) -> str:
    """Suggest the setting, or the section, that an unknown key means; "" if none is near."""
    known = [each for each, _ in list_settings()]
    sections = {each.rpartition(".")[0] for each in known}
    section, _, key = path.rpartition(".")
    if not section:
        nearest = get_close_matches(path, sections, 1)
        return f" Did you mean [{nearest[0]}]?" if nearest else ""
    elsewhere = [each for each in known if each.rpartition(".")[2] == key]
    nearest = elsewhere if len(elsewhere) == 1 else get_close_matches(path, known, 1, 0.75)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def find_contradictions(settings: Settings) -> Iterator[Contradiction]:
    yield from find_storage_contradictions(settings)
    auth0, foundry, operator = settings.auth0, settings.foundry, settings.operator
    if not is_loopback(operator.address[0]) and not operator.token:
        yield Contradiction(
            "ATLAS_OPERATOR_LISTEN is not a loopback address: set ATLAS_OPERATOR_TOKEN.",
            ("operator.listen", "operator.token"),
        )
    if settings.traces.endpoint and not is_url(settings.traces.endpoint):
        yield Contradiction(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be the URL of a collector: "
            "http://collector:4318/v1/traces",
            ("traces.endpoint",),
        )
    if not auth0.audiences:
        yield Contradiction("AUTH0_AUDIENCE names no audience.", ("auth0.audience",))
    public_url = settings.edge.public_url
    if public_url and not (is_url(public_url) and urlsplit(public_url).query == ""):
        message = "ATLAS_PUBLIC_URL must be the URL that phones use: https://atlas.example.com"
        yield Contradiction(message, ("edge.public_url",))
    for name, path, urls in (
        ("AUTH0_ISSUER", "auth0.issuer", auth0.issuers),
        ("AUTH0_DOMAIN", "auth0.domain", () if auth0.issuer else (auth0.domain,)),
        ("FOUNDRY_HOST", "foundry.host", (foundry.host,)),
        ("FOUNDRY_OAUTH_TOKEN_URL", "foundry.oauth_token_url", (foundry.oauth_token_url,)),
    ):
        if not all(is_url(normalize_url(url)) for url in urls if url):
            yield Contradiction(f"{name} must be a host or an http or https URL.", (path,))


def find_storage_contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Find those of the journal, the dataset and the stream."""
    journal = settings.journal
    if journal.path is not None and not journal.url.removeprefix("sqlite:///").strip("/"):
        yield Contradiction("ATLAS_JOURNAL must name a file.", ("journal.url",))
    elif journal.path is not None and not journal.url.startswith("sqlite:///"):
        yield Contradiction(
            "ATLAS_JOURNAL must be sqlite:///relative/path, sqlite:////absolute/path, memory: or "
            "postgresql://user:password@host/database.",
            ("journal.url",),
        )
    if 0 < journal.digests_days < journal.receipts_days:
        yield Contradiction(
            "journal.digests_days must be at least journal.receipts_days, or 0 for ever.",
            ("journal.digests_days", "journal.receipts_days"),
        )
    if settings.stream.rid == settings.foundry.dataset_rid:
        yield Contradiction(
            "FOUNDRY_STREAM_RID must not be FOUNDRY_DATASET_RID: a stream is a dataset of its own.",
            ("stream.rid",),
        )
