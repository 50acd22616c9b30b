"""The good mobile client: batches, retries that add nothing twice, and a balance at the end.

It does what the app should do. A batch is cut from the file alone, and named by what is in it: the
same file sent again, by whomever and after whatever, is recognised and adds no row.

`batches.py` cuts, `answers.py` understands and keeps the balance, `sending.py` sends until there is
an answer; `streaming.py` does it in one request, without any cutting.
"""

from atlas.client.replies import CannotSend, LineAccounting
from atlas.client.sending import Client, open_client
from atlas.client.streaming import stream

__all__ = ["CannotSend", "Client", "LineAccounting", "open_client", "stream"]
