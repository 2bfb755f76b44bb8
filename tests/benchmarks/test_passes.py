"""The compiled passes are on for a training, and afterwards as they were."""

from __future__ import annotations

import pytest

from syncattn.benchmarks.environment import device_description
from syncattn.benchmarks.passes import compiled_passes
from syncattn.kernels import compiled, fuse, fused


def test_passes_are_on_inside_and_as_before_after() -> None:
    before = fused()
    with compiled_passes(True) as on:
        if not on:
            pytest.skip("no C compiler")
        assert fused()
        assert "compiled passes" in device_description("cpu")
        with compiled_passes(False) as inner:
            assert not inner
            assert "compiled passes" not in device_description("cpu")
        assert fused()
    assert fused() == before


def test_an_error_inside_restores_them_too() -> None:
    before = fused()
    with pytest.raises(RuntimeError, match="inside"), compiled_passes(not before):
        raise RuntimeError("inside")
    assert fused() == before


def test_without_a_compiler_they_stay_off_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler() -> None:
        raise OSError("none of cc, gcc, clang")

    fuse(False)
    monkeypatch.setattr(compiled, "_library", None)
    monkeypatch.setattr(compiled, "_build", no_compiler)
    with compiled_passes(True) as on:
        assert not on
    assert not fused()
