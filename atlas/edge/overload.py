"""Refuses uploads under overload, at a small fraction of the cost of an export.

A refusal is decided before anything of the request is parsed, and refusals are paced. Otherwise
thousands of senders that ignore Retry-After keep the loop so busy with refusals that it never
sleeps: the thread of the journal does not get the interpreter, exports stand still, the measured
rate falls, still more is refused, and the service does not recover.
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
    """Guards the `paths` of uploads. Emits the number of refusals once a second."""

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
        """Check the load, and wait for the turn of a refusal. None if the request may go on."""
        if scope["path"] not in self._paths or scope["method"] != "POST" or self._is_draining():
            return None
        if not self._admission.is_overloaded():
            return None
        await self._pacer.wait_for_turn()
        try:
            self._admission.check_load()  # it may have passed meanwhile
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
