"""Checks settings as a start does, without opening the journal and without the network."""

from collections.abc import Iterator

from atlas.core.errors import ConfigurationError
from atlas.outside import network
from atlas.outside.journal.keys import require_common_key
from atlas.service.store import parse_address
from atlas.service.subscribers import add_tracing, build_subscribers
from atlas.service.uploads import build_file_policy
from atlas.settings import Settings


def find_start_problems(settings: Settings) -> Iterator[str]:
    """Yield the reasons why these settings, although valid, would stop a start."""
    for check in (
        check_database,
        check_certificates,
        check_proxies,
        build_file_policy,
        check_traces,
    ):
        try:
            check(settings)
        except ConfigurationError as error:
            yield str(error)


def check_database(settings: Settings) -> None:
    if settings.journal.is_shared:
        parse_address(settings)
        require_common_key(settings.journal.keys)


def check_certificates(settings: Settings) -> None:
    network.build_tls_context(settings.network.ca_bundle)


def check_proxies(settings: Settings) -> None:
    if settings.network.use_proxy:
        network.read_proxies()


def check_traces(settings: Settings) -> None:
    with add_tracing(build_subscribers(settings), settings):
        pass
