import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import syncattn
from syncattn import functional, kernels, nn, reference


@pytest.mark.parametrize(
    "module", [syncattn, functional, kernels, nn, reference], ids=lambda module: module.__name__
)
def test_the_shelf_holds_what_it_names(module):
    assert module.__all__ == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_operators_and_modules_are_on_the_top_shelf():
    for name in (
        "selective_synchronization", "oscillator_attention", "kuramoto_attention",
        "frustrated_synchronization",
    ):  # fmt: skip
        assert getattr(syncattn, name) is getattr(functional, name)
        module = name.title().replace("_", "")
        assert getattr(syncattn, module) is getattr(nn, module)
    assert syncattn.__version__ == version("syncattn")
    assert (Path(syncattn.__file__).parent / "py.typed").exists()


def test_every_public_function_documents_itself():
    for module in (functional, nn, reference):
        for name in module.__all__:
            thing = getattr(module, name)
            assert not callable(thing) or thing.__doc__, name


def test_torch_is_loaded_by_the_first_name_that_needs_it():
    code = (
        "import sys, syncattn\n"
        "print(syncattn.__version__, 'torch' in sys.modules)\n"
        "syncattn.fuse\n"
        "print('torch' in sys.modules, 'fuse' in vars(syncattn))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == [f"{syncattn.__version__} False", "True True"]


def test_names_on_demand_are_listed_and_others_refused():
    assert {*syncattn.__all__, "SyncAttnForCausalLM", "__version__"} <= set(dir(syncattn))
    assert syncattn.nn is nn
    with pytest.raises(AttributeError, match="module 'syncattn' has no attribute 'selective'"):
        syncattn.selective  # noqa: B018


def test_a_compiled_function_finds_the_operators():
    code = (
        "import torch, syncattn\n"
        "def f(x): return syncattn.wrap_phase(x) + 1\n"
        "x = torch.full((3,), 7.0)\n"
        "compiled = torch.compile(f, backend='eager', fullgraph=True)\n"
        "assert compiled(x).equal(f(x))"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_nothing_heavy_is_imported_and_models_say_what_they_need():
    heavy = ("transformers", "accelerate", "matplotlib", "tyro", "safetensors", "triton")
    # One process for both: the import of torch is what takes the time.
    code = (
        f"import sys, syncattn; from syncattn import *\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
        f"sys.modules['transformers'] = None\n"
        f"try: syncattn.SyncAttnConfig\n"
        f"except ImportError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    imported, sentence = result.stdout.splitlines()
    assert imported == "[]"
    assert "`syncattn.SyncAttnConfig` needs transformers" in sentence
    assert "pip install 'syncattn[models]'" in sentence


def test_models_load_on_demand():
    assert syncattn.SyncAttnConfig.__module__ == "syncattn.models.configuration"
    with pytest.raises(AttributeError, match="module 'syncattn' has no attribute 'nothing'"):
        _ = syncattn.nothing
