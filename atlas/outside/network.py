"""Why somebody cannot be reached, told by kind: a name, a port, a certificate, a time-out.

Never with the text of the library, which may quote an address and what is in it.
"""

import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from atlas.core.diagnosis import Amiss

UNREACHED = (aiohttp.ClientError, TimeoutError, OSError, ValueError)  # yarl's are ValueErrors
SELF_SIGNED = {18, 19}  # X509_V_ERR_*: openssl/x509_vfy.h
UNKNOWN_ISSUER = {2, 20, 21}
EXPIRED, NOT_YET_VALID, OTHER_NAME = 10, 9, 62
CA = (
    "If that is a proxy of yours which looks into TLS, let this machine know its CA "
    "(SSL_CERT_FILE); else mend the certificate there."
)


def unreached(error: BaseException, address: str, setting: str) -> Amiss:
    """What a failed call says of the way to this address, which is that of a setting."""
    if isinstance(error, aiohttp.InvalidURL) or not host_of(address):
        return Amiss(f"{setting} is no address.", f"Set {setting} to a host, or to an https URL.")
    host = host_of(address)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return uncertified(error, host)
    reason, to_do = told(error, setting)
    return Amiss(f"{host} {reason}", to_do)


def told(error: BaseException, setting: str) -> tuple[str, str]:
    is_right = f"Is {setting} right?"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "is a name that nobody knows (DNS).", f"{is_right} Can this machine look up names?"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "does not speak TLS as we do.", f"{is_right} The scheme and the port are part of it."
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "refuses the connection.", f"{is_right} Does anything listen there?"
        return "cannot be reached.", f"{is_right} Does a firewall let this machine out?"
    if isinstance(error, TimeoutError):
        return "does not answer in time.", f"{is_right} Does a firewall let this machine out?"
    return "ends the connection without a whole answer.", f"{is_right} Is it a web server?"


def uncertified(error: aiohttp.ClientConnectorCertificateError, host: str) -> Amiss:
    """Why a certificate is not believed."""
    found = error.certificate_error
    code = found.verify_code if isinstance(found, ssl.SSLCertVerificationError) else None
    if code in SELF_SIGNED:
        return Amiss(f"{host} shows a certificate that it has signed itself.", CA)
    if code in UNKNOWN_ISSUER:
        return Amiss(f"{host} shows a certificate of an issuer that is not known here.", CA)
    if code == EXPIRED:
        return Amiss(f"The certificate of {host} has expired.", "Renew it there.")
    if code == NOT_YET_VALID:
        return Amiss(f"The certificate of {host} is not valid yet.", "Is our clock right? Step 1.")
    if code == OTHER_NAME:
        return Amiss(f"The certificate of {host} is for another name.", "Use the name that it has.")
    return Amiss(f"The certificate of {host} is not believed.", CA)


def host_of(address: str) -> str:
    """Its host, and its port if that is not the usual one; "" for what is no address."""
    try:
        url = URL(address)
    except ValueError:
        return ""
    if not url.host or url.scheme not in {"http", "https"}:
        return ""
    return url.host if url.is_default_port() else f"{url.host}:{url.port}"


def sent_on(address: str, location: str) -> str:
    """The host that a redirect leads to; "" for one that leads nowhere."""
    try:
        return host_of(str(URL(address).join(URL(location))))
    except ValueError:
        return ""


def ahead_seconds(date: str, now: datetime) -> float | None:
    """How far a Date, which has whole seconds, is before this moment of ours."""
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (theirs - now).total_seconds() + 0.5 if theirs.tzinfo else None
