"""How it ends: nothing new, whoever waits is told, the uploader finishes."""

from atlas.core.errors import Draining
from atlas.core.events import DrainStarted, Watch
from atlas.core.messages import Receipt
from atlas.runtime import CompletionRegistry, Quota, Wakeup


class Drain:
    """Begun once, and from then on told to whoever asks."""

    def __init__(
        self, completions: CompletionRegistry[Receipt], quota: Quota, wakeup: Wakeup, watch: Watch
    ) -> None:
        self.has_begun = False
        self._quota = quota
        self._completions = completions
        self._wakeup = wakeup
        self._watch = watch

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._watch(DrainStarted())
            self._quota.close()
            self._completions.cancel_all()
            self._wakeup.close()

    async def check(self) -> None:
        if self.has_begun:
            raise Draining
