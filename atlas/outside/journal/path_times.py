"""The time in the path of a user's next export."""

from collections import OrderedDict
from datetime import datetime, timedelta

from atlas.core import identifiers

SEARCH_WINDOW = timedelta(minutes=1)
USERS_CACHED_MAX = 10_000


class PathTimes:
    """Remembers the latest time in a path of each user.

    Otherwise each of thousands of exports sent at once would try all earlier paths.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[str, datetime] = OrderedDict()

    def suggest(self, sub: str, at: datetime) -> datetime:
        """Return the first time from `at` on whose path may be free."""
        latest = self._latest.get(sub)
        if latest is not None and at <= latest <= at + SEARCH_WINDOW:
            return latest + identifiers.MILLISECOND
        return at

    def remember(self, sub: str, at: datetime) -> None:
        self._latest.pop(sub, None)
        self._latest[sub] = at
        if len(self._latest) > USERS_CACHED_MAX:
            self._latest.popitem(last=False)
