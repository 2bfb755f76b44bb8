"""Data: corpora as bytes, and the batches drawn from them."""

from syncattn.data.agreement import AgreementSplit, AgreementTask
from syncattn.data.synthetic import CopyingBatch, CopyingTask, copying_accuracy
from syncattn.data.text import (
    Corpus,
    CorpusIdentity,
    evaluation_batches,
    load_corpus,
    training_batch,
)
from syncattn.data.words import WordCorpus, load_words

__all__ = [
    "AgreementSplit",
    "AgreementTask",
    "CopyingBatch",
    "CopyingTask",
    "Corpus",
    "CorpusIdentity",
    "WordCorpus",
    "copying_accuracy",
    "evaluation_batches",
    "load_corpus",
    "load_words",
    "training_batch",
]
