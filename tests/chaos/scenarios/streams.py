"""A stream beside the dataset: the service is killed while it publishes, or the stream is away."""

import time

import anyio
import msgspec

from atlas.actors.publish.publisher import WINDOW_BYTES
from atlas.local.foundry.faults import Fault
from atlas.local.foundry.stream_state import EmulatedStream
from tests.chaos.failpoints import Failpoint
from tests.chaos.oracle import Row
from tests.chaos.service_process import Broken
from tests.chaos.trial_environment import TrialEnvironment
from tests.support.emulated_stream import emulate_stream

KILLS, HITS_MAX = 20, 8
POINT_SECONDS, CATCH_UP_SECONDS = 20.0, 20.0
ALL_CALLS = 64
BACKLOG_BYTES, EXPORT_BYTES = 200_000, 45_000  # the latter is about the rows of an export
DROP_SECONDS = 30.0  # the backlog is measured every 15 s


async def kill_while_publishing(testbed: TrialEnvironment) -> None:
    """SIGKILL after Foundry has appended records, before the journal knows."""
    stream = emulate_stream(testbed.emulators.foundry)
    await testbed.atlas.start()
    kills = testbed.scale.scale_number(KILLS, least=2)
    for _ in range(kills):
        point = Failpoint("after stream.publish", testbed.rng.randint(1, HITS_MAX))
        await testbed.restart_with_failpoint(point)
        async with testbed.clients.keep_sending(
            testbed.scale.scale_number(500, least=60), per_second=40
        ):
            if not await testbed.atlas.exits_within(POINT_SECONDS):
                raise Broken(f"The failpoint {point.point} was never reached.")
            await testbed.atlas.start()
    await testbed.wait_until_drained()
    await wait_until_published(testbed, stream)
    repeated = len(stream.records) - len(list_uuids(stream))
    testbed.findings.add_fact(f"{kills} kills, {repeated} records published again")
    testbed.findings.check(repeated > 0, "No record was published again.")


async def take_stream_away(testbed: TrialEnvironment) -> None:
    """Refuse all connections for publishing: commits go on, and the backlog is bounded."""
    stream = emulate_stream(testbed.emulators.foundry)
    testbed.emulators.set_faults(Fault(call="publish", kind="refused", count=0))
    await testbed.atlas.start()
    exports = testbed.scale.scale_number(500, least=250)
    async with testbed.clients.keep_sending(exports, phones=ALL_CALLS, per_second=60):
        pass
    await testbed.wait_until_drained()
    testbed.findings.check(not stream.records, "Something was published.")
    began = time.monotonic()
    while "oldest rows dropped from it" not in testbed.atlas.read_log():
        if time.monotonic() - began > DROP_SECONDS:
            raise Broken("Nothing was dropped from the stream.")
        await anyio.sleep(0.2)
    testbed.emulators.foundry.faults.clear()
    await testbed.clients.deliver(testbed.clients.next_export())
    await testbed.wait_until_drained()
    began, last = time.monotonic(), list(testbed.oracle.sent)[-1]
    while not any(uuid.startswith(f"{last}/") for uuid in list_uuids(stream)):
        if time.monotonic() - began > 4 * CATCH_UP_SECONDS:  # the longest pause is a minute
            raise Broken("The last export is not in the stream.")
        await anyio.sleep(0.1)
    size = sum(map(len, stream.records))
    testbed.findings.add_fact(f"{size:,} bytes published after the outage")
    # what it had in hand is not dropped; two columns are added to the rows
    limit = 1.1 * (BACKLOG_BYTES + WINDOW_BYTES + EXPORT_BYTES)
    testbed.findings.check(size <= limit, f"{size:,} bytes were published.")
    testbed.findings.check(exports * EXPORT_BYTES > limit, "Too little was sent.")


async def wait_until_published(testbed: TrialEnvironment, stream: EmulatedStream) -> None:
    """Wait until each line that was answered is in the stream."""
    sent = testbed.oracle.sent.items()
    promised = {f"{name}/{line}" for name, each in sent if each.reply for line in range(each.lines)}
    began = time.monotonic()
    while left := promised - list_uuids(stream):
        if time.monotonic() - began > CATCH_UP_SECONDS:
            raise Broken(f"{len(left)} lines are not in the stream: {min(left)}.")
        await anyio.sleep(0.1)


def list_uuids(stream: EmulatedStream) -> set[str]:
    return {msgspec.json.decode(record, type=Row).uuid for record in stream.records}
