"""An HTTP/1.1 server for ASGI applications, strict about everything that could be read two ways.

`parser.py` is pure, bytes in and events out, with `framing.py` and `header_validation.py`.
`exchange.py` is one request and its answer as ASGI has them, and `connection.py` drives both over a
`lingering_transport.py`. `listener.py` accepts connections, `connection_limiter.py` limits their
number, `turnstile.py` starts a few of many requests at a time.

Atlas has a server of its own because public ones accept requests without Host, with two of them, or
with headers of any size, and never close a client that sends nothing or reads nothing.
"""

from atlas.server.http.connection_limits import ConnectionLimits
from atlas.server.http.listener import Listener
from atlas.server.http.raw_errors import RawErrors

__all__ = ["ConnectionLimits", "Listener", "RawErrors"]
