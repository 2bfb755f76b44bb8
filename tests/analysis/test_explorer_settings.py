import pytest

from syncattn.analysis.explorer_settings import Settings
from syncattn.analysis.explorer_switches import Changes, Switch


def test_settings_are_read_from_a_mapping():
    given = {
        "text": "a", "model": None, "layer": 1, "query": 2, "strength": 2, "bandwidth": 0.5,
        "off": [{"layer": 0, "head": 1, "harmonic": 2}],
    }  # fmt: skip
    off = (Switch(0, 1, harmonic=2),)
    expected = Settings("a", layer=1, query=2, changes=Changes(off, 2.0, 0.5))
    assert Settings.read(given) == expected
    assert Settings.read({}) == Settings()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "`settings` must be a mapping"),
        ({"colour": 1}, "`settings` must be one of"),
        ({"changes": {}}, "`settings` must be one of"),
        ({"text": 3}, "`text` must be a text"),
        ({"text": None}, "`text` must be a text"),
        ({"off": "layer"}, "`off` must be a list"),
        ({"off": ["layer"]}, "`switch` must be a mapping"),
        ({"off": [{"level": 0}]}, "`switch` must be one of"),
        ({"strength": "2"}, "`strength` must be a number"),
        ({"bandwidth": -1}, "`bandwidth` must be finite and between"),
        ({"head": 0.5}, "`head` must be an integer"),
        ({"layer": None}, "`layer` must be an integer"),
        ({"query": True}, "`query` must be an integer"),
        ({"off": [{}]}, "`layer` must be an integer"),
        ({"off": [{"layer": "x"}]}, "`layer` must be an integer"),
        ({"off": [{"layer": 0, "delay": 0.5}]}, "`delay` must be an integer"),
    ],
)
def test_settings_that_cannot_be_meant(given, named):
    with pytest.raises((ValueError, TypeError), match=named):
        Settings.read(given)
