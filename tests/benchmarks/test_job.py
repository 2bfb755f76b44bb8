from dataclasses import replace

import pytest
import torch

from syncattn.benchmarks.job import failed_job, run_job
from tests.benchmarks.small import comparison


def test_a_record_tells_everything(tmp_path):
    (job,) = comparison(tmp_path, mechanisms=("selective",))._jobs()
    record = run_job(job)
    assert record.status == "ok"
    assert record.tokens == 4 * 2 * 24
    assert record.curve[-1]["step"] == 4
    assert len(record.diagnostics["locked_fraction"]) == 1
    assert 0 < record.test_bits_per_byte < 16
    assert record.data["whole"] is True
    for name in ("weights.png", "weights.svg", "sample.txt", "model/model.safetensors"):
        assert (job.directory / name).stat().st_size > 0


def test_a_corpus_that_changed_is_refused(tmp_path):
    (job,) = comparison(tmp_path, mechanisms=("softmax",))._jobs()
    with pytest.raises(RuntimeError, match="corpus must stay as it was"):
        run_job(replace(job, corpus_sha256="0" * 64))


def test_divergence_is_a_failed_record(tmp_path, monkeypatch):
    (job,) = comparison(tmp_path, mechanisms=("softmax",))._jobs()
    real = torch.nn.functional.cross_entropy

    def broken(*args, **kwargs):
        return real(*args, **kwargs) * torch.nan

    monkeypatch.setattr("syncattn.training.loop.cross_entropy", broken)
    record = run_job(job)
    assert record.status == "failed"
    assert "must stay finite" in record.failure
    assert record.test_bits_per_byte is None


def test_what_fails_otherwise_is_a_record_too(tmp_path):
    run = comparison(tmp_path, mechanisms=("selective",))
    (job,) = run._jobs()
    record = failed_job(job, run.corpus, MemoryError(), steps=2)
    assert (record.status, record.failure, record.steps) == ("failed", "MemoryError", 2)
    assert (record.arm, record.seed, record.data["name"]) == (
        "selective",
        0,
        run.corpus.identity.name,
    )
