"""Data: corpora as bytes, and the batches drawn from them."""

from syncattn.data.text import (
    Corpus,
    CorpusIdentity,
    evaluation_batches,
    load_corpus,
    training_batch,
)

__all__ = ["Corpus", "CorpusIdentity", "evaluation_batches", "load_corpus", "training_batch"]
