import math

import numpy as np
import pytest

from syncattn.analysis.curves import summarize_curve, summarize_curves


def points(seed, values, key="valid"):
    return [{"tokens": 10 * n, key: v, "seed": seed} for n, v in enumerate(values, start=1)]


def test_mean_and_deviation_where_all_seeds_have_a_value():
    found = summarize_curve("a", [*points(0, [3, 2, 1]), *points(1, [5, 4])], "valid")
    assert found.tokens.tolist() == [10, 20]
    assert found.mean.tolist() == [4, 3]
    np.testing.assert_allclose(found.deviation, math.sqrt(2))
    assert [seed.values.tolist() for seed in found.seeds] == [[3, 2, 1], [5, 4]]


def test_one_seed_has_no_deviation_and_a_bad_value_stops_it():
    found = summarize_curve("a", points(0, [3, None, math.nan]), "valid")
    assert found.deviation is None
    assert found.seeds[0].stopped
    assert found.tokens.tolist() == [10]


def test_a_point_told_twice_counts_once_by_its_last_word():
    found = summarize_curve(
        "a", [*points(0, [3, 2]), *points(0, [3, 1]), *points(1, [5, 4])], "valid"
    )
    assert found.mean.tolist() == [4, 2.5]
    assert found.seeds[0].values.tolist() == [3, 1]


def test_nothing_finite_is_refused_and_left_out():
    nothing = points(0, [None])
    with pytest.raises(ValueError, match="none such for 'b'"):
        summarize_curve("b", nothing, "valid")
    curves = {"a": points(0, [1]), "b": nothing, "c": points(0, ["one"]), "d": [{"tokens": {}}]}
    assert list(summarize_curves(curves, "valid")) == ["a"]
