"""The reasons for which rows differ: each deliberate difference, and the unexplained ones.

README.md next to this file lists the differences in the same words.
"""

from enum import Enum

NOT_A_RECORD = (
    "`null`, numbers, strings and arrays as lines are rejected; they made rows of blanks, or a 500."
)
BAD_LINE = "One bad line no longer sinks the export."
INTEGER_FALLBACK = (
    "`value_double` falls back to `valueInteger`, "
    "so sleep stages and other categories have a value."
)
INVALID_LINE = (
    "Lines that are not UTF-8, contain a lone surrogate or a number out of a double's range, are "
    "nested deeper than 64 or longer than 8 MiB are rejected; they made rows, with U+FFFD or null "
    "in them."
)
BYTE_FOR_BYTE = "`raw_healthkit_record` is the sender's line byte for byte, not a re-serialisation."
CAUSES_OF_LOSS = (
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


def explain_by(sentence: str) -> tuple[str, tuple[str, ...]]:
    return sentence, (sentence,)


class Reason(Enum):
    """A reason, in the order of the report.

    `differences` are the matching entries of the list in README.md, word for word. A
    reason without any is unexplained.
    """

    MISSING = "The old service has this row, or has it more often in an export: Atlas lacks it.", ()
    REPLACED = "Only the old service has this row: it was not UTF-8, or Atlas lacks it.", ()
    DIFFERS = "Nothing that is known makes these rows differ.", ()
    DOUBLED = "Atlas has this row more often than the old service.", ()
    NO_RECORD = "Atlas made a row of a line that is not a record.", ()

    ZERO = explain_by("Zero is zero; it became null.")
    INTEGER = explain_by(INTEGER_FALLBACK)
    NUMBER = explain_by("`value_double` is a number or null, never text.")
    TEXT = explain_by("Text columns are text: another JSON type becomes its compact JSON.")
    RAW = explain_by(BYTE_FOR_BYTE)
    BLANKS = explain_by(NOT_A_RECORD)
    REJECTED = explain_by(INVALID_LINE)
    RETRIED = explain_by("A lost reply and a retry make one file, not two.")
    LOST = LOST_BEFORE, CAUSES_OF_LOSS

    def __init__(self, sentence: str, differences: tuple[str, ...]) -> None:
        self.sentence = sentence.replace("`", "")
        self.differences = differences

    @property
    def is_explained(self) -> bool:
        return bool(self.differences)
