"""Atlas carries Apple Health data from an iOS app into a Palantir Foundry dataset.

The flow, which is also the listing of atlas/actors:

    edge -> authenticate -> edge -> decode -> flatten -> journal ~~> upload -> Foundry

core      the words and the rules; no I/O, no clock
runtime   channels, replies, stages, restarts, quotas; knows no health word
computing work for a processor: in steps, threads, worker processes
actors    one stage of the flow a file
edge      the way in (HTTP)
outside   the way out, named after the systems we talk to
local     stand-ins of those systems, for a laptop and for the tests
settings  what may be set
diagnose  walks the whole flow, and says what is wrong and what to do
service   the wiring; the only file that knows every room
process   a running service: journal, loop, sockets, signals
client    the good mobile client
apple     Apple's Health export, as the lines that the app would send
comparison  the rows of the old service beside ours: which differ, and why
cli       one function a command
"""

__version__ = "0.1.0"
