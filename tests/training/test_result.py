"""A result can be written down."""

import json
from pathlib import Path

from syncattn.training import CurvePoint, TrainingResult

POINT = CurvePoint(4, 64, 7.5, 7.25, 1e-3, 0.5, 1.5)
RESULT = TrainingResult("name", [POINT], 4, 7.25, 7.5, 64, 1.5, 42.5, 100, 10, 5, "cpu", None)


def test_a_result_is_plain_values():
    values = json.loads(json.dumps(RESULT.as_dict(), allow_nan=False))
    assert values["curve"][0]["valid_bits_per_byte"] == values["valid_bits_per_byte"] == 7.25
    assert (values["weights_step"], values["seed"], values["checkpoint"]) == (4, 5, None)


def test_a_path_is_written_as_text():
    fields = vars(RESULT) | {"checkpoint": Path("run") / "checkpoints"}
    assert TrainingResult(**fields).as_dict()["checkpoint"] == str(Path("run") / "checkpoints")
