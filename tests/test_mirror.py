import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "syncattn"

WITHOUT_A_TEST_FILE = {
    "kernels/compiled.py": "its switch is tested with what it compiles, in native",
    "_validation/masks.py": "tested together with values in test_validation",
    "_validation/numbers.py": "tested together with values in test_validation",
    "_validation/values.py": "tested together with masks in test_validation",
    "nn/stream.py": "every module refuses what does not fit, in fuzz/test_nn",
    "training/writing.py": "what it refuses is provoked in training/test_faults",
    "_typing.py": "names only; every signature uses them under the typing hook",
    "kernels/pairwise_backward_triton.py": "part of pairwise_operator_triton",
    "kernels/pairwise_forward_triton.py": "part of pairwise_operator_triton",
    "kernels/pairwise_operands_triton.py": "part of pairwise_operator_triton",
    "kernels/pairwise_tiles_triton.py": "part of pairwise_operator_triton",
    "kernels/pairwise_view_triton.py": "part of pairwise_operator_triton",
    "kernels/selective_synchronization_engine.py": "part of selective_synchronization",
    "kernels/selective_synchronization_native.py": "part of selective_synchronization",
    "kernels/selective_synchronization_pairs.py": "part of selective_synchronization",
    "kernels/selective_synchronization_repeats.py": "part of selective_synchronization",
    "kernels/selective_synchronization_tiles.py": "part of selective_synchronization",
}

MODULES = sorted(SOURCE.rglob("*.py"))
FILES = [path for path in MODULES if path.name not in {"__init__.py", "__main__.py"}]


def name(path):
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_source_file_has_its_test_file(path):
    if name(path) in WITHOUT_A_TEST_FILE:
        return
    relative = path.relative_to(SOURCE)
    expected = ROOT / "tests" / relative.parent / f"test_{path.stem.lstrip('_')}.py"
    assert expected.exists(), f"{expected.relative_to(ROOT)} is missing"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_each_module_has_a_caption_of_one_line(path):
    caption = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert caption, "the module has no docstring"
    assert len(caption.splitlines()) == 1, "the caption has more than one line"
    assert caption.endswith(".")


def test_the_exceptions_exist():
    for exception in WITHOUT_A_TEST_FILE:
        assert (SOURCE / exception).exists(), f"{exception} is gone: drop it from the list"
