"""Writes every network as ONNX, runs it, and prints its largest deviation as JSON."""

import json
import sys
from pathlib import Path

import onnxruntime
import torch

from syncattn.models import MECHANISMS
from syncattn.models.export import export_onnx
from tests.models.networks import build, tokens


def deviation(mechanism, length, folder):
    model = build(mechanism)
    path = export_onnx(model, folder / f"{mechanism}-{length}.onnx", length=length)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in (2, 3):
        for size in (9,) if length else (3, 8, 24):
            ids = tokens(batch, size)
            (logits,) = session.run(["logits"], {"input_ids": ids.numpy()})
            error = torch.from_numpy(logits) - model(ids).logits.detach()
            largest = max(largest, error.abs().max().item())
    return largest


if __name__ == "__main__":
    pairs = [(mechanism, length) for mechanism in MECHANISMS for length in (9, None)]
    errors = {f"{m}-{length}": deviation(m, length, Path(sys.argv[1])) for m, length in pairs}
    print(json.dumps(errors))
