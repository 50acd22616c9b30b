"""An event loop on a virtual clock: a sleep takes no time, and the same history repeats itself."""

import asyncio
import selectors


class InstantSelector(selectors.DefaultSelector):
    """Advances the clock in place of waiting. Raises RuntimeError if nothing can ever happen."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its selector."""

    def __init__(self):
        self.instants = InstantSelector()
        super().__init__(self.instants)

    def time(self):
        return self.instants.now


def run_virtually(main, *arguments):
    """Run a coroutine function on a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(*arguments))
