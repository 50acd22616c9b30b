"""Refuses uploads under overload, at a small fraction of the cost of an export.

The decision comes before any parsing, and refusals are paced. Otherwise thousands of clients that
ignore Retry-After would keep the event loop so busy with refusals that the journal's thread does
not get the interpreter. Then exports stall, the measured rate falls, even more is refused, and
the service does not recover.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection

from starlette.types import Scope

from atlas.core.errors import Overloaded
from atlas.core.events import EventSink, RequestsShed
from atlas.edge.admission import Admission
from atlas.runtime import Pacer

REFUSALS_PER_SECOND = 2_000.0  # a seventh of a processor
EVENT_SECONDS = 1.0


class OverloadGuard:
    """Checks the load before uploads to `paths`. Emits the number of refusals each second."""

    def __init__(
        self,
        admission: Admission,
        paths: Collection[str],
        is_draining: Callable[[], bool],
        emit: EventSink,
    ) -> None:
        self._admission = admission
        self._paths = frozenset(paths)
        self._is_draining = is_draining
        self._emit = emit
        self._pacer = Pacer(REFUSALS_PER_SECOND)
        self._shed = Counter[str]()
        self._is_counting = False

    async def find_overload(self, scope: Scope) -> Overloaded | None:
        """Return the refusal of a request, as soon as the pace allows; None if it is admitted."""
        if scope["path"] not in self._paths or scope["method"] != "POST" or self._is_draining():
            return None
        if not self._admission.is_overloaded():
            return None
        await self._pacer.wait_for_turn()
        try:
            self._admission.check_load()  # the overload may have ended meanwhile
        except Overloaded as error:
            self._count(scope["path"])
            return error.detach()
        return None

    def _count(self, path: str) -> None:
        self._shed[path] += 1
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_later(EVENT_SECONDS, self._emit_shed)

    def _emit_shed(self) -> None:
        self._is_counting = False
        shed, self._shed = self._shed, Counter()
        self._emit(RequestsShed(shed.total(), dict(shed)))
