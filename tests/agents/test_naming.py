"""Names that do not exist are told with what may have been meant."""

from voicebus.agents.naming import unknown_keys


def test_unknown_names_are_told_in_order_with_the_nearest_that_exist() -> None:
    assert unknown_keys(["vioce", "voice", "xyz", 5], {"voice", "speed"}) == "5, vioce (did you mean voice?), xyz"


def test_nothing_is_said_of_names_that_exist() -> None:
    assert unknown_keys(["voice"], {"voice": str}) == ""
