"""The shutdown: nothing new is accepted, waiting requests are answered, the uploader finishes."""

from atlas.core.errors import Draining
from atlas.core.events import DrainStarted, EventSink
from atlas.core.messages import Receipt
from atlas.runtime import CompletionRegistry, Quota, Wakeup


class Shutdown:
    """Begins the shutdown once. Afterwards the readiness check fails with Draining."""

    def __init__(
        self,
        completions: CompletionRegistry[Receipt],
        quota: Quota,
        wakeup: Wakeup,
        emit: EventSink,
    ) -> None:
        self._has_begun = False
        self._quota = quota
        self._completions = completions
        self._wakeup = wakeup
        self._emit = emit

    def has_begun(self) -> bool:
        return self._has_begun

    def begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._emit(DrainStarted())
            self._quota.close()
            self._completions.cancel_all()
            self._wakeup.close()

    async def check(self) -> None:
        if self._has_begun:
            raise Draining
