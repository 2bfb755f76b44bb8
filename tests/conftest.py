"""Options, seeds and traps that hold for every test."""

import functools
import os
import sys

import pytest
import torch
import torch.utils._device

if not torch.cuda.is_available():
    # Triton reads it when it is first imported: without a device its kernels are interpreted.
    os.environ.setdefault("TRITON_INTERPRET", "1")

pytest.register_assert_rewrite("tests.conformance", "tests.tolerance", "tests.nn.battery")

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16,
          "float16": torch.float16}  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device on which the laws are checked")
    parser.addoption("--dtype", choices=DTYPES, help="check the precision laws in this one only")


def pytest_generate_tests(metafunc):
    """Runs the laws of a conformance class over the backends and scenes of its operator."""
    operator = getattr(metafunc.cls, "operator", None)
    if operator is not None and "scene" in metafunc.fixturenames:
        pairs = operator.runs()
        metafunc.parametrize(
            ("backend", "scene"), pairs, ids=[f"{backend}-{scene.name}" for backend, scene in pairs]
        )
    elif operator is not None and "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", operator.backends)
    if operator is not None and "dtype" in metafunc.fixturenames:
        only = metafunc.config.getoption("--dtype")
        names = [only] if only else list(DTYPES)
        metafunc.parametrize("dtype", [DTYPES[name] for name in names], ids=names)


@pytest.fixture(scope="session")
def device(pytestconfig):
    return torch.device(pytestconfig.getoption("--device"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def _nan_filled(create):
    @functools.wraps(create)
    def wrapper(*args, **kwargs):
        tensor = create(*args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("syncattn") and tensor.is_floating_point():
            tensor.fill_(torch.nan)
        return tensor

    return wrapper


# What `torch.device` as a context redirects is looked up once: before the traps take the names.
torch.utils._device._device_constructors()
TRAPS = {name: _nan_filled(getattr(torch, name)) for name in ("empty", "empty_like")}


@pytest.fixture(autouse=True)
def uninitialized_memory_is_nan(request, monkeypatch):
    """Fills what the package leaves uninitialized with NaN, so that reading it shows."""
    # Dynamo cannot trace the wrapper.
    if "compile" in request.node.nodeid:
        return
    for name, trap in TRAPS.items():
        monkeypatch.setattr(torch, name, trap)


@pytest.fixture
def compiled():
    """Runs a test with the compiled passes on."""
    from syncattn.kernels import compiled as passes
    from syncattn.kernels import fuse

    if passes.shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    assert fuse()
    yield
    assert not fuse(False)
