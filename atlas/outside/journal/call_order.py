"""The order of the outbox's calls: what is in hand decides which of them may come next."""

from atlas.core.errors import OutOfOrder


def require_nothing_in_hand(*, is_in_hand: bool) -> None:
    if is_in_hand:
        raise OutOfOrder(
            "A transaction is about to begin while a group or a transaction is in hand."
        )


def require_intent(*, has_intent: bool, recorded: str | None) -> None:
    if recorded is not None or not has_intent:
        raise OutOfOrder(
            "A transaction is recorded without an intent, or while another one is open."
        )


def require_claimed(claimed: int, named: int, *, is_shared: bool) -> None:
    """Require that all `named` exports of a file are claimed, and more than one only if shared."""
    if not claimed or claimed != named:
        raise OutOfOrder("A file is recorded for no export, or for exports that are not claimed.")
    if claimed > 1 and not is_shared:
        raise OutOfOrder("A file that is not shared is recorded for several exports.")


def require_recorded(transaction: str | None, *, recorded: str | None, is_in_hand: bool) -> None:
    if is_in_hand and recorded != transaction:
        raise OutOfOrder("The conclusion names another transaction than the one recorded as open.")
