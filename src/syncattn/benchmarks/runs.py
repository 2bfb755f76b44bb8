"""Trained models found again in the folder of a run."""

from __future__ import annotations

from pathlib import Path

from syncattn.benchmarks.records import Record, read_records
from syncattn.models import SyncAttnForCausalLM

__all__ = ["load_trained", "trained_folder"]


def load_trained(run: Path, mechanism: str | None = None) -> SyncAttnForCausalLM:
    """Loads a trained model from a comparison, one of its trainings, or a saved model.

    Args:
        run: The folder.
        mechanism: Which training of a comparison; the one with the best validation score when
            None.

    Returns:
        The model, from safetensors alone.

    Raises:
        ValueError: If there is no such model, or this version has other parameters than its file.
    """
    folder = _model_folder(run, mechanism)
    try:
        model, found = SyncAttnForCausalLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    except RuntimeError as error:
        # Transformers refuses other shapes, with a report over many lines.
        raise ValueError(_of_another_version(folder, "other shapes")) from error
    strange = sorted({*found["missing_keys"], *found["unexpected_keys"]})
    if strange:
        raise ValueError(_of_another_version(folder, ", ".join(strange[:3])))
    return model


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
    return trained_folder(run, min(chosen, key=lambda r: (r.valid_bits_per_byte or 0.0, r.seed)))


def trained_folder(run: Path, record: Record) -> Path:
    """Returns where a comparison saves the model of a record.

    Args:
        run: Folder of the comparison.
        record: One of its records.
    """
    return run / f"{record.arm}-seed{record.seed}" / "model"
