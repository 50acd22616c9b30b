"""Options of `atlas local` for the behaviour of its Foundry."""

import pytest
import typer

from atlas.cli.behaviour import OPTION, parse_behaviour
from atlas.local.foundry import Behaviour

PAIRS = Behaviour.list_pairs()


@pytest.mark.parametrize("options", [None, []])
def test_without_an_option_everything_is_as_it_is_most_likely(options):
    assert parse_behaviour(options) == Behaviour()


@pytest.mark.parametrize(("mode", "value"), PAIRS)
def test_every_mode_and_value_can_be_said(mode, value):
    assert parse_behaviour([f"{mode}={str(value).lower()}"]) == Behaviour(**{mode: value})


def test_options_add_up_and_the_later_of_two_for_one_mode_counts():
    options = ["busy=unnamed", "clock_skew_seconds=-2.5", "busy=bad_request", "file_exists=409"]

    assert parse_behaviour(options) == Behaviour(
        busy="bad_request", clock_skew_seconds=-2.5, file_exists=409
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("busy", "'busy' is not NAME=VALUE."),
        ("busy=", "busy cannot be ''. Valid: named, unnamed, bad_request."),
        ("busy=very", "busy cannot be 'very'. Valid: named, unnamed, bad_request."),
        ("file_exists=500", "file_exists cannot be '500'. Valid: 404, 409, 400, overwrites."),
        ("redirect=perhaps", "redirect cannot be 'perhaps'. Valid: false, true."),
        (
            "content_bytes_max=-1",
            "content_bytes_max cannot be '-1'. Valid: a number such as 0, 1000.",
        ),
        (
            "clock_skew_seconds=nan",
            "clock_skew_seconds cannot be 'nan'. Valid: a number such as 0.0, -5.0, 5.0.",
        ),
        ("colour=red", f"There is no mode 'colour'. Modes: {', '.join(Behaviour.list_values())}."),
    ],
)
def test_a_wrong_option_is_told_what_is_valid_in_one_line(option, said):
    with pytest.raises(typer.BadParameter) as caught:
        parse_behaviour(["sizes=text", option])

    assert caught.value.message == said
    assert OPTION in caught.value.format_message()
    assert "\n" not in caught.value.format_message()
