"""The kernels compiled for a Hopper GPU without one: tensor cores, registers, shared memory."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from syncattn._masks import Visibility
from syncattn.kernels import pairwise_launch_triton as launch

SHARED_MEMORY = 227 * 1024


def compiled(*arguments):
    """Returns what each kernel of a case needs, found in a process that does not interpret."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.ahead", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def fits(lines, backward=True):
    names = {line["kernel"] for line in lines}
    expected = {"pair_forward"}
    if backward:
        expected |= {"pair_row_gradients", "pair_column_gradients"}
    assert expected <= names
    for line in lines:
        assert line["shared"] <= SHARED_MEMORY
        assert line["reg"] <= 255


@pytest.mark.slow
def test_a_kernel_compiles_to_tensor_cores_without_a_device():
    lines = compiled("distance", "bfloat16", "64", "64", "forward_only")
    fits(lines, backward=False)
    assert all(line["tensor_cores"] for line in lines if line["kernel"] == "pair_forward")


CASES = [
    ("distance", "bfloat16", "64", "64"),
    ("distance", "bfloat16", "128", "128"),
    ("distance", "float16", "64", "64"),
    ("distance", "float32", "64", "64"),
    ("distance", "bfloat16", "2", "64", "padded"),
    ("distance", "bfloat16", "64", "64", "pruned"),
    ("softmax", "bfloat16", "64", "64"),
    ("softmax", "bfloat16", "64", "128"),
    ("softmax", "bfloat16", "128", "256"),
    ("softmax", "bfloat16", "256", "256"),
    ("softmax", "float32", "256", "256"),
    ("softplus", "bfloat16", "64", "8"),
    ("readout", "float32", "8", "64"),
    ("elu", "float16", "80", "8"),
    # As oscillator attention calls them: narrow keys with float32 anchors, and the other way round.
    ("softplus", "bfloat16/float32", "64", "8"),
    ("readout", "float32/bfloat16", "8", "64"),
    ("readout", "float32/bfloat16", "8", "128", "padded"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_kind_and_width_fits_the_device(case):
    fits(compiled(*case))


def operands(dtype, dim=64, **view):
    x = torch.zeros(1, 1, 8, dim, dtype=dtype)
    return launch.Pairs(
        x, x, x, None, None, None, launch.View(**view), "distance", 1.0, 1, 0.0, 1e-3, False
    )


def test_distances_are_direct_where_products_would_round(monkeypatch):
    assert operands(torch.float32, 200).direct
    assert operands(torch.bfloat16, 4).direct
    assert not operands(torch.bfloat16, 5).direct
    assert not operands(torch.float32)._replace(kind="softmax").direct


@pytest.mark.parametrize("part", ["forward", "rows", "columns"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dim", [16, 64, 128, 256])
def test_tiles_are_powers_of_two_that_the_multipliers_take(monkeypatch, part, dtype, dim):
    monkeypatch.setattr(launch, "_interpreted", lambda: False)
    for pairs in (operands(dtype, dim), operands(dtype, dim, panel=40, size=64)):
        tile = launch.tile_of(pairs, part)
        assert min(tile.rows, tile.columns) >= 16
        assert tile.rows & (tile.rows - 1) == tile.columns & (tile.columns - 1) == 0
    leaves = launch.tile_of(operands(dtype, dim, panel=40, size=64), part)
    assert (leaves.rows, leaves.columns) == (64, 64)


def test_runs_of_rows_that_see_a_column_mirror_those_of_columns():
    segment = torch.tensor([0, 0, 0, 1, 1, 2])
    for is_causal in (False, True):
        visibility = Visibility(6, 6, is_causal, segment=segment)
        view = launch.view_of(visibility, torch.device("cpu"))
        rows, columns = torch.arange(6)[:, None], torch.arange(6)[None]
        by_row = (columns >= view.first[:, None]) & (columns < view.end[:, None])
        by_column = (rows >= view.column_first) & (rows < view.column_end)
        assert torch.equal(by_row, visibility.dense(torch.device("cpu"))[0, 0])
        assert torch.equal(by_row, by_column)
    everyone = launch.view_of(Visibility(6, 6), torch.device("cpu"))
    assert everyone.first is None
    assert everyone.column_first is None


def test_too_many_blocks_are_refused():
    with pytest.raises(ValueError, match="must make fewer than 2147482624 blocks; got 2147483648"):
        launch._programs(2**31)


def test_rows_of_products_are_inner_products():
    a, b = torch.randn(2, 1, 5, 3), torch.randn(2, 5, 1, 3).transpose(1, 2)
    if torch.cuda.is_available():
        a, b = a.cuda(), b.cuda()
    torch.testing.assert_close(launch.row_dots(a, b), (a * b).sum(-1))
    assert launch.row_dots(a[:, :, :0], b[:, :, :0]).shape == (2, 1, 0)
