"""An HTTP/1.1 server for ASGI applications that rejects every ambiguous request.

    listener.py             accepts connections
    connection_limiter.py   limits of a listener, and the admission of connections
    turnstile.py            limits the number of requests that start per turn of the loop
    connection.py           connects the parser, the application and the transport
      parser.py               parses requests: bytes in, events out, without I/O
        framing.py              finds the boundaries of messages
        header_validation.py    rejects ambiguous headers
      exchange.py             one request and its response, as ASGI defines them
      lingering_transport.py  writes, and always closes
      deadline.py             the timer of a connection
      raw_errors.py           error responses that do not come from the application

Atlas has its own server because public ones accept requests without a Host header, with two of
them, or with headers of any size, and do not disconnect clients that send or read nothing.
"""

from atlas.server.http.connection_limiter import ConnectionLimits
from atlas.server.http.listener import BACKLOG, Listener
from atlas.server.http.raw_errors import RawErrors

__all__ = ["BACKLOG", "ConnectionLimits", "Listener", "RawErrors"]
