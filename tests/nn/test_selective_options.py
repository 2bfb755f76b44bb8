import pytest

from syncattn.nn.selective_options import checked_options, require_published, targets_per_head


def test_options_pass_unchanged():
    options = {"top_k": None, "smoothing": 0.5, "empty_rows": "mean", "backend": "blockwise"}
    assert checked_options(options) == options
    assert checked_options({}) == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sharpness": 1}, TypeError, "must be among .*top_k.*; got `sharpness`"),
        ({"top_k": 0}, ValueError, "`top_k` must be at least 1"),
        ({"smoothing": -1.0}, ValueError, "`smoothing` must be finite"),
        ({"edge_floor": "x"}, TypeError, "`edge_floor` must be a number"),
        ({"empty_rows": "first"}, ValueError, "`empty_rows` must be one of 'zero', 'nearest'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        checked_options(options)


def test_what_the_paper_fixes_is_refused():
    require_published(bias=None, smoothing=None)
    with pytest.raises(ValueError, match="`bias` must be left out with `variant` 'paper'"):
        require_published(smoothing=None, bias=False)


def test_targets_are_one_or_one_per_head():
    assert targets_per_head(0.3, 3) == (0.3, 0.3, 0.3)
    assert targets_per_head([0.1, 0.9], 2) == (0.1, 0.9)
    with pytest.raises(ValueError, match="got 2 values and 3 heads"):
        targets_per_head([0.1, 0.9], 3)
    with pytest.raises(ValueError, match="`target_locked_fraction` must be finite and strictly"):
        targets_per_head([0.1, 1.0], 2)
