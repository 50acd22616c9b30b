"""A bug that crashes one stage on any export that mentions poison."""

from dataclasses import dataclass, field

from atlas.actors.flatten import tabulate
from atlas.computing import WorkerExecutor
from atlas.core import ndjson
from tests.conftest import an_export
from tests.support.fakes import Mishap, nothing

STAGES = {"decode": ndjson.decode, "flatten": tabulate}
POISON, GOOD = an_export(b'{"uuid":"poison"}\n'), an_export(b'{"uuid":"good"}\n')


@dataclass
class Bug:
    """Crashes this stage for any export that mentions the poison, until it is fixed."""

    stage: str
    is_mended: bool = False
    hold: Mishap = nothing  # processing it
    error: Exception = field(default_factory=lambda: ValueError("72 beats of Ada"))
    reached: list = field(default_factory=list)

    async def compute(self, size, work, /, *args):
        if work is STAGES[self.stage] and not self.is_mended:
            self.reached.append(args)
            made = await WorkerExecutor()(size, work, *args)
            if "poison" in str(made):
                await self.hold()
                raise self.error
        return await WorkerExecutor()(size, work, *args)
