"""The shutdown: nothing new is accepted, waiting requests are answered, the uploader finishes."""

from collections.abc import Callable, Sequence

from atlas.core.errors import Draining
from atlas.core.events import DrainStarted, EventSink
from atlas.core.messages import Receipt
from atlas.runtime import CompletionRegistry, Quota


class Shutdown:
    """Begins the shutdown once. Afterwards the readiness check fails with Draining."""

    def __init__(
        self,
        completions: CompletionRegistry[Receipt],
        quota: Quota,
        stop_uploads: Sequence[Callable[[], None]],
        emit: EventSink,
    ) -> None:
        self._has_begun = False
        self._quota = quota
        self._completions = completions
        self._stop_uploads = stop_uploads
        self._emit = emit

    def has_begun(self) -> bool:
        return self._has_begun

    def begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._emit(DrainStarted())
            self._quota.close()
            self._completions.cancel_all()
            for stop in self._stop_uploads:
                stop()

    async def check(self) -> None:
        if self._has_begun:
            raise Draining
