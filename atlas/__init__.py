"""Atlas carries Apple Health data from an iOS app into a Palantir Foundry dataset.

The flow, which is also the listing of atlas/actors:

    edge -> authenticate -> edge -> decode -> flatten -> journal ~~> upload -> Foundry

README.md next to this file describes the packages, the rules and the words.
"""

__version__ = "0.1.0"
