"""Why rows differ: each deliberate difference, and the kinds that none explains.

README.md beside this file lists the differences in the same words.
"""

from enum import Enum

NOT_A_RECORD = (
    "`null`, numbers, strings and arrays as lines are rejected; they made rows of blanks, or a 500."
)
BAD_LINE = "One bad line no longer sinks the export."
CATEGORIES = (
    "`value_double` falls back to `valueInteger`, "
    "so sleep stages and other categories have a value."
)
NO_LINE = (
    "Lines that are not UTF-8, contain a lone surrogate or a number out of a double's range, are "
    "nested deeper than 64 or longer than 8 MiB are rejected; they made rows, with U+FFFD or null "
    "in them."
)
AS_SENT = "`raw_healthkit_record` is the sender's line byte for byte, not a re-serialisation."
WAYS_TO_LOSE = (
    BAD_LINE,
    NOT_A_RECORD,
    "30 exports in one millisecond make 30 files.",
    "Foundry trouble is 202 or 503, not 500.",
    "Partial failure is 207 or 503, not `success: true`.",
    "A byte order mark at the start is skipped.",
)
LOST_BEFORE = (
    "The old service lost it: a bad line in its export, an upload that failed, a file written over."
)


def difference(sentence: str) -> tuple[str, tuple[str, ...]]:
    return sentence, (sentence,)


class Reason(Enum):
    """Why a row differs, in the order of the report.

    `differences` are the items of README.md that explain it, word for word; without any, the reason
    is unexplained.
    """

    MISSING = "The old service has this row, or has it more often in an export: Atlas lacks it.", ()
    REPLACED = "Only the old service has this row: it was no UTF-8, or Atlas lacks it.", ()
    DIFFERS = "Nothing that is known makes these rows differ.", ()
    DOUBLED = "Atlas has this row more often than the old service.", ()
    NO_RECORD = "Atlas made a row of what is no record.", ()

    ZERO = difference("Zero is zero; it became null.")
    INTEGER = difference(CATEGORIES)
    NUMBER = difference("`value_double` is a number or null, never text.")
    TEXT = difference("Text columns are text: another JSON type becomes its compact JSON.")
    RAW = difference(AS_SENT)
    BLANKS = difference(NOT_A_RECORD)
    REJECTED = difference(NO_LINE)
    RETRIED = difference("A lost reply and a retry make one file, not two.")
    LOST = LOST_BEFORE, WAYS_TO_LOSE

    def __init__(self, sentence: str, differences: tuple[str, ...]) -> None:
        self.sentence = sentence.replace("`", "")
        self.differences = differences

    @property
    def is_explained(self) -> bool:
        return bool(self.differences)
