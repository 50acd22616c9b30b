"""Decides whether this replica uploads: at most one replica does, the one that holds the lease.

A pure state machine makes the decisions, like the commit protocol.

    states.py     the states, the inputs and the commands
    protocol.py   the table of transitions
    leader.py     the driver: asks for the lease, renews it, runs the uploader
    usage.py      exchanges the usage of users near the rate limit
    notifications.py  passes on what other replicas have done
"""

from atlas.replicas.leader import Leader
from atlas.replicas.notifications import NotificationHandler
from atlas.replicas.usage import UsageExchange

__all__ = ["Leader", "NotificationHandler", "UsageExchange"]
