"""Trained models found again in the folder of a run."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.records import Record, read_records
from syncattn.models import SyncAttnForCausalLM

__all__ = ["DamagedModelError", "by_validation", "load_trained", "trained_folder"]


class DamagedModelError(ValueError):
    """A file of weights that cannot be read."""


def load_trained(run: Path, mechanism: str | None = None) -> SyncAttnForCausalLM:
    """Loads a trained model from a comparison, one of its trainings, or a saved model.

    Args:
        run: The folder.
        mechanism: Which training of a comparison; the one with the best validation score when
            None.

    Returns:
        The model, from safetensors alone.

    Raises:
        DamagedModelError: If its file cannot be read.
        ValueError: If there is no such model, it has another mechanism than is asked for, or this
            version has other parameters than its file.
    """
    folder = _model_folder(run, mechanism)
    try:
        model, found = SyncAttnForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    except SafetensorError as error:
        raise DamagedModelError(
            f"`run` must hold whole models; {folder} has a damaged model.safetensors ({error}). "
            f"Train it again, or copy it again."
        ) from error
    except RuntimeError as error:
        # Transformers refuses other shapes, with a report over many lines.
        raise ValueError(_of_another_version(folder, "other shapes")) from error
    _require_mechanism(model, run, folder, mechanism)
    strange = sorted({*found["missing_keys"], *found["unexpected_keys"]})
    if strange:
        raise ValueError(_of_another_version(folder, ", ".join(strange[:3])))
    return model


def _require_mechanism(
    model: SyncAttnForCausalLM, run: Path, folder: Path, mechanism: str | None
) -> None:
    """Refuses a saved model of another mechanism; in a comparison the training was chosen by it."""
    found = model.config.mechanism
    asked = ARMS[mechanism].mechanism if mechanism in ARMS else mechanism
    if folder in (run, run / "model") and asked not in {None, found}:
        raise ValueError(
            f"`mechanism` must be that of the saved model, {found}; got {mechanism} for {run}. "
            f"Leave it out, or give the folder of the comparison."
        )


def _of_another_version(folder: Path, difference: str) -> str:
    return (
        f"`run` must hold the parameters that this version of syncattn has; {folder} differs in "
        f"{difference}. Train it again, or use the version that wrote it."
    )


def _model_folder(run: Path, mechanism: str | None) -> Path:
    if not run.is_dir():
        raise ValueError(
            f"`run` must be a folder written by `syncattn compare`; got {run}, which is "
            f"{'a file' if run.exists() else 'missing'}. Run a comparison first."
        )
    for folder in (run, run / "model"):
        if (folder / "config.json").is_file():
            return folder
    if not (run / "records.jsonl").is_file():
        raise ValueError(
            f"`run` must hold records.jsonl or a saved model; got {run}, which holds neither. "
            f"Run a comparison first."
        )
    records, _ = read_records(run / "records.jsonl")
    trained = [r for r in records if r.status == "ok" and trained_folder(run, r).is_dir()]
    chosen = [r for r in trained if mechanism in {None, r.arm}]
    if not chosen:
        known = ", ".join(dict.fromkeys(r.arm for r in trained)) or "none"
        raise ValueError(
            f"`mechanism` must be one that the run trained: {known}; got {mechanism}. "
            f"Choose one of these."
        )
    return trained_folder(run, min(chosen, key=by_validation))


def by_validation(record: Record) -> tuple[float, int]:
    """Returns what puts the best record on validation first, and one that was not measured last.

    Args:
        record: A record of a comparison.
    """
    bits = record.valid_bits_per_byte
    return (math.inf if bits is None else bits, record.seed)


def trained_folder(run: Path, record: Record) -> Path:
    """Returns where a comparison saves the model of a record.

    Args:
        run: Folder of the comparison.
        record: One of its records.
    """
    return run / f"{record.arm}-seed{record.seed}" / "model"
