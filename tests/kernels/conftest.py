"""Fixtures of the kernels' tests."""

import pytest

from syncattn.kernels import compiled as passes
from syncattn.kernels.compiled import fuse


@pytest.fixture
def compiled():
    """Runs a test with the compiled passes on."""
    if passes.shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    assert fuse()
    yield
    assert not fuse(False)
