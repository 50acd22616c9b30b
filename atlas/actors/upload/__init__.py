"""Is it in the dataset? Many exports, one transaction, each of them once.

The outcome of a call can stay unknown: the answer is lost, or we are killed. So the group is
claimed and the attempt noted before a transaction is begun, and the transaction noted before its
first file is put. What is found noted is a question to Foundry, asked before anything else is done.
Only what is seen in the dataset counts as being there: others may end our transactions, too.

    pace.py       how much, how often, how hard
    layout.py     what goes into which file
    put.py        a group on its way into a transaction
    uploader.py   group after group, at a pace
    errands.py    what operators have done between two groups
    people.py     what is there of a person, and how it is forgotten: an errand, too
    outcomes.py   what became of what was begun
    restored.py   what became of what we have forgotten
"""

from atlas.actors.upload.errands import Errands
from atlas.actors.upload.layout import NDJSON, Format, Shape
from atlas.actors.upload.pace import Pace
from atlas.actors.upload.people import People
from atlas.actors.upload.uploader import Chance, Upload

__all__ = ["NDJSON", "Chance", "Errands", "Format", "Pace", "People", "Shape", "Upload"]
