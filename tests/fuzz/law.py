"""The law of every public function: a right answer, or one of our errors."""

import dataclasses
import os
import re

import torch
from hypothesis import HealthCheck, settings

from syncattn import BackendUnavailableError


def number_of_cases():
    """Returns the cases over all files: half of them outside of continuous integration."""
    return int(
        os.environ.get("SYNCATTN_FUZZ_CASES") or ("20000" if os.environ.get("CI") else "10000")
    )


CASES = number_of_cases()
RANDOM = os.environ.get("SYNCATTN_FUZZ_RANDOM", "") not in {"", "0"}
"""False repeats the same cases in every run, so that nobody's change fails by another's luck."""

OURS = (ValueError, TypeError, RuntimeError, BackendUnavailableError, ImportError, IndexError)
_WHAT_CAME = re.compile(r"\bgot\b|cannot run this call|NOT met|which is not installed|needs ")


def budget(share):
    """Returns the settings of a test that runs this share of all cases."""
    return settings(
        max_examples=max(1, round(share * CASES)),
        derandomize=not RANDOM,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def is_ours(error):
    """Tells whether an error is a sentence of this package: what must hold, what came, what to do.

    A wrong keyword is refused by Python itself, in the name of the function that was called.
    """
    text = str(error)
    if type(error) is TypeError and re.match(r"\w[\w.]*\(\) (got|missing) ", text):
        return True
    named = re.search(r"`\w[\w.\[\]-]*`|^The |^All ", text)
    sentences = text.endswith(".") and len(re.findall(r"\.( |$)", text)) >= 2
    return isinstance(error, OURS) and bool(named and _WHAT_CAME.search(text) and sentences)


def tensors(thing):
    """Returns every floating tensor inside a result."""
    if isinstance(thing, torch.Tensor):
        return [thing] if thing.is_floating_point() or thing.is_complex() else []
    if isinstance(thing, float):
        return [torch.tensor(thing, dtype=torch.float64)]
    if isinstance(thing, dict):
        return [x for part in thing.values() for x in tensors(part)]
    if isinstance(thing, tuple | list):
        return [x for part in thing for x in tensors(part)]
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return [x for f in dataclasses.fields(thing) for x in tensors(getattr(thing, f.name))]
    return []


def is_finite(thing):
    """Tells whether no NaN and no infinity is anywhere inside."""
    return all(x.device.type == "meta" or bool(x.isfinite().all()) for x in tensors(thing))


def has_nan(thing):
    """Tells whether a NaN is anywhere inside."""
    return any(x.device.type != "meta" and bool(x.isnan().any()) for x in tensors(thing))


def obeys(target, arguments):
    """Asserts the law for one call.

    Args:
        target: What to call; see `strategies.Target`.
        arguments: Its keyword arguments.
    """
    try:
        result = target.function(**arguments)
    except Exception as error:
        assert is_ours(error), f"{target.name}: {type(error).__name__}: {error}"
        return
    if is_finite(arguments) and not target.may_be_nan(arguments):
        assert not has_nan(result), f"{target.name}: NaN from finite arguments"
    if target.check is not None:
        target.check(arguments, result)
