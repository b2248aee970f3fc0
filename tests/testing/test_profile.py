"""chatstream.testing.profile."""

import attrs
import pytest

from chatstream.testing import Profile


def test_presets_can_be_changed():
    profile = Profile.preset("instant", tokens=3)

    assert Profile(time_to_first_token=0, gap=0, tokens=3) == profile


def test_every_preset_is_a_profile():
    assert {"instant", "fast", "typical", "slow"} == {*Profile.PRESETS}
    assert all(isinstance(Profile.preset(name), Profile) for name in Profile.PRESETS)


def test_an_unknown_preset_names_the_known():
    with pytest.raises(ValueError, match=r"'warp', there are instant, fast, typical, slow"):
        Profile.preset("warp")


@pytest.mark.parametrize(
    "wrong",
    [
        {"gap": -0.1},
        {"time_to_first_token": -1},
        {"jitter": 1.5},
        {"chunk_tokens": 0},
        {"events_per_write": 0},
        {"keep_alive": 0},
        {"error_rate": 2},
        {"error_status": 200},
        {"line_end": "x"},
        {"framing": "x"},
        {"reasoning_field": "thoughts"},
        {"tokens": -1},
    ],
    ids=str,
)
def test_values_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Profile(**wrong)


def test_fields_are_scalars():
    """
    The command line offers each as an option.
    """
    values = attrs.asdict(Profile()).values()

    assert all(isinstance(value, str | int | float | bool | None) for value in values)
