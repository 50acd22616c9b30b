"""The URL of the database: postgresql://user:password@host/database?schema=atlas"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from atlas.core.errors import ConfigurationError

# Not urlsplit: it is for one host, and newer versions of Python refuse a list with an IPv6 address.
URL = re.compile(
    r"(?i:postgres(?:ql)?)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"/(?P<database>[^?#@]+)(?:\?(?P<query>[^#]+))?"
)
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
FILES = "sslrootcert", "sslcert", "sslkey", "sslcrl"
SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")
EXAMPLE = "postgresql://user:password@host/database?schema=atlas"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """The address of a journal: a DSN for each host. `shown` has neither user nor password.

    `is_verified`: the certificate of the server is verified with the authorities of this machine,
    because the URL asks for it, or because it does not say otherwise and the host is not private.
    """

    dsns: tuple[str, ...] = field(repr=False)
    schema: str
    shown: str
    is_verified: bool = False


def parse_address(url: str) -> DatabaseAddress:
    """Split off the name of the schema. Raises ConfigurationError, without quoting the URL."""
    parts = URL.fullmatch(url)
    if parts is None:
        raise ConfigurationError(f"ATLAS_JOURNAL must be a URL like {EXAMPLE}.")
    user, hosts, database = parts["user"], parts["hosts"], parts["database"]
    try:
        query = dict(parse_qsl(parts["query"] or "", keep_blank_values=True, strict_parsing=True))
    except ValueError as error:
        raise ConfigurationError(f"ATLAS_JOURNAL must be a URL like {EXAMPLE}.") from error
    schema = query.pop("schema", "atlas")
    if not all(map(is_host, hosts.split(","))) or not (hosts or "host" in query):
        raise ConfigurationError(f"ATLAS_JOURNAL must be a URL like {EXAMPLE}.")
    for name in FILES:
        if name in query and not Path(query[name]).is_file():
            raise ConfigurationError(f"{name} in ATLAS_JOURNAL must name a file.")
    if not SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            "The schema in ATLAS_JOURNAL must be up to 40 lower-case letters, digits and _, "
            "and must not begin with pg_."
        )
    shown_hosts = hosts or query.get("host", "")
    is_private = all(map(is_private_host, shown_hosts.split(",")))
    mode = query.get("sslmode", "" if is_private else "verify-full")
    is_verified = mode == "verify-full" and "sslrootcert" not in query
    if is_verified:
        query.pop("sslmode", None)
    login = "" if user is None else f"{user}@"
    options = f"?{urlencode(query)}" if query else ""
    dsns = tuple(f"postgresql://{login}{host}/{database}{options}" for host in hosts.split(","))
    shown = f"postgresql://{shown_hosts}/{database}?schema={schema}"
    return DatabaseAddress(dsns, schema, shown, is_verified)


def is_host(text: str) -> bool:
    """True for a host, or an address in brackets, with or without a port."""
    match = HOST.fullmatch(text)
    return match is not None and int(match[1] or 0) < 65_536


def is_private_host(host: str) -> bool:
    """True for a private IP, a socket, or a name without a dot or in .internal, .local or .svc."""
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    try:
        return ip_address(name).is_private
    except ValueError:
        is_local = "." not in name or name.endswith((".internal", ".local", ".svc"))
        return name.startswith("/") or is_local
