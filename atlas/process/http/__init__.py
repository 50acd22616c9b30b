"""An HTTP/1.1 server for ASGI applications, strict about everything that could be read two ways.

Bytes come in, events go out: `parser.py` (with `framing.py` and `head.py`) is pure. `exchange.py`
is one request and its answer as ASGI has them, `connection.py` drives both over a transport,
`outlet.py` is the way out of it, `listener.py` accepts connections, `places.py` says how many.

Public servers accept requests without Host, with two, or with headers of any size, and never close
a client that says nothing, or reads nothing.
"""

from atlas.process.http.listener import Listener
from atlas.process.http.refusals import Refusals
from atlas.process.http.rules import Rules

__all__ = ["Listener", "Refusals", "Rules"]
