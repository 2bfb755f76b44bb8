import pytest
import torch

from syncattn.nn.oscillator_options import PUBLISHED, checked_options, published


def test_options_pass_through():
    assert checked_options({"row_gain": True, "backend": "auto"}) == {
        "row_gain": True, "backend": "auto",
    }  # fmt: skip
    assert checked_options({}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_norm": "ball"}, "Options of oscillator attention must be among .*`anchor_norm`"),
        ({"row_gain": 1}, "`row_gain` must be True or False; got 1"),
        ({"legacy_padding": "yes"}, "`legacy_padding` must be True or False; got 'yes'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        checked_options(options)


def test_the_published_form_fixes_what_is_left_out():
    left_out = {"bias": None, "rotary_base": 10_000.0, "readout_gain": 1.0, "row_gain": False}
    assert published(**left_out, coupling_bias="auto") == PUBLISHED
    assert published(**PUBLISHED) == PUBLISHED
    for name, value in (("bias", False), ("rotary_base", 500.0), ("readout_gain", 2.0)):
        with pytest.raises(ValueError, match=f"`{name}` must be left out with `variant` 'paper'"):
            published(**{name: value})
    for value in (True, [False], torch.zeros(2)):
        with pytest.raises(ValueError, match="`row_gain` must be left out"):
            published(row_gain=value)
