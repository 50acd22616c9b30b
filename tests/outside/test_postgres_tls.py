"""Connections to a database of which the certificate is verified, or deliberately is not."""

import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atlas.core.errors import CommandError, ConfigurationError
from atlas.local.postgres import PostgresServer
from atlas.outside.network import build_tls_context
from tests.support.certificates import self_signed
from tests.support.postgres import open_postgres_journal

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def server(postgres_servers, tmp_path_factory):
    """A server with a certificate for 127.0.0.1 that only its own file vouches for.

    Debian's: the wheel's is built without TLS.
    """
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    certificate, key = self_signed(folder)
    settings = {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
    server = PostgresServer(postgres_servers.find_programs("machine"), folder / "data")
    with server:
        pass
    for source, name in ((certificate, "server.crt"), (key, "server.key")):
        copy = Path(shutil.copy(source, server.data / name))
        copy.chmod(0o600)
        server.account.own(copy)
    server.settings = settings
    with server:
        yield Secured(server, certificate)


class Secured:
    def __init__(self, server, certificate):
        self.server, self.certificate = server, certificate

    @asynccontextmanager
    async def open(self, query, ca_bundle=""):
        tls = build_tls_context(ca_bundle)
        url = f"{self.server.url}?{query}schema=tls"
        async with open_postgres_journal(url, tls=tls) as journal:
            yield journal

    async def is_encrypted(self, query, ca_bundle=""):
        async with self.open(query, ca_bundle) as journal:
            session = journal.leadership._session
            return await session.run(lambda database: database.fetch_value(ENCRYPTED))


async def test_a_server_is_verified_with_the_bundle_of_the_settings(server):
    assert await server.is_encrypted("sslmode=verify-full&", str(server.certificate))


async def test_a_server_that_nobody_vouches_for_is_refused_if_it_is_to_be_verified(server):
    with pytest.raises((CommandError, ConfigurationError), match="TLS failed"):
        await server.is_encrypted("sslmode=verify-full&")


async def test_without_verification_the_connection_is_encrypted_all_the_same(server):
    assert await server.is_encrypted("sslmode=require&")
    assert await server.is_encrypted("")
