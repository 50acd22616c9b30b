"""The reference client: sends lines in batches or as a stream, and accounts for every line.

Batches are cut from the lines alone and named by their content. The same file sent again, by any
client and after any failure, is recognised and adds no rows.

`batches.py` cuts lines into requests, `replies.py` parses replies and keeps the accounting,
`sending.py` sends batches with retries, and `streaming.py` sends a whole file in one request.
"""

from atlas.client.replies import CannotSend, LineAccounting
from atlas.client.sending import Client, open_client
from atlas.client.streaming import stream

__all__ = ["CannotSend", "Client", "LineAccounting", "open_client", "stream"]
