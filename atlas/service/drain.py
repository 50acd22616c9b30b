"""How it ends: nothing new, whoever waits is told, the uploader finishes."""

from atlas.core.errors import Draining
from atlas.core.events import DrainStarted, Watch
from atlas.core.messages import Receipt
from atlas.runtime import Bell, Promises, Quota


class Drain:
    """Begun once, and from then on told to whoever asks."""

    def __init__(self, promises: Promises[Receipt], quota: Quota, bell: Bell, watch: Watch) -> None:
        self.has_begun = False
        self._quota = quota
        self._promises = promises
        self._bell = bell
        self._watch = watch

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._watch(DrainStarted())
            self._quota.close()
            self._promises.call_off()
            self._bell.take_down()

    async def check(self) -> None:
        if self.has_begun:
            raise Draining
