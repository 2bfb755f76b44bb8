"""Minimal pairs: a language model of bytes tells right sentences from wrong ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import log_softmax

from syncattn._typing import Int, Tensor
from syncattn.benchmarks.problems import Batch, Scores, TextProblem
from syncattn.data.blimp import MinimalPairs
from syncattn.data.corpora import TokenSet

__all__ = ["PairsProblem"]

_TEXT = "next bytes of the text"


class PairsProblem(TextProblem):
    """Learn a text byte by byte, then tell right sentences from wrong ones without training.

    A pair that does not fit into the context is passed over: cut, right and wrong may be alike.

    Args:
        tokens: The text, as bytes.
        pairs: The sentences.
        context_length: Bytes a network sees.
        largest: Most pairs of a paradigm, the first that fit; None for all.
        **limits: See `TextProblem`.

    Raises:
        ValueError: If no pair fits into the context.
    """

    def __init__(
        self,
        tokens: TokenSet,
        pairs: MinimalPairs,
        *,
        context_length: int,
        largest: int | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(tokens, context_length=context_length, **limits)
        self.pairs = pairs
        self.identity = pairs.identity
        self.groups = (_TEXT, *pairs.paradigms)
        self.largest = largest
        if not any(map(self._fits, pairs.pairs)):
            shortest = min((_longer(pair) for pair in pairs.pairs), default=0)
            raise ValueError(
                f"`context_length` must hold a pair of sentences, {shortest} bytes at least; got "
                f"{context_length}. Give a longer context."
            )

    def score(self, network: nn.Module, split: str, *, batch_size: int) -> Scores:
        """Returns the next bytes of the validation text that are hit, or the pairs told apart.

        Args:
            network: From a `Batch` to logits.
            split: ``"valid"`` scores the text, so that rates are not chosen on the pairs: its
                accuracy is that of the next byte, and no share of pairs.
            batch_size: Sequences scored at a time.

        Returns:
            The scores, those of the text in a group of its own; on ``"test"`` a pair is right when
            the right sentence is the likelier one, and half right when both are equally likely.
        """
        if split != "test":
            return super().score(network, split, batch_size=batch_size)
        was_training = network.training
        network.eval()
        scores = Scores()
        try:
            for number, name in enumerate(self.pairs.paradigms):
                chosen = self._chosen(number)
                for start in range(0, len(chosen), batch_size):
                    part = chosen[start : start + batch_size]
                    good, bad = (
                        self._likelihood(network, [pair[side] for pair in part]) for side in (0, 1)
                    )
                    won, tied = int((good > bad).sum()), int((good == bad).sum())
                    scores.add(name, won + tied / 2, len(part))
        finally:
            network.train(was_training)
        return scores

    def _chosen(self, paradigm: int) -> list[tuple[str, str]]:
        every = zip(self.pairs.pairs, self.pairs.paradigm, strict=True)
        return [pair for pair, p in every if p == paradigm and self._fits(pair)][: self.largest]

    def _fits(self, pair: tuple[str, str]) -> bool:
        return _longer(pair) <= self.length

    @torch.no_grad()
    def _likelihood(self, network: nn.Module, sentences: list[str]) -> Tensor:
        """Returns the log likelihood of each sentence after a line break."""
        rows = [b"\n" + s.encode() for s in sentences]
        width = max(map(len, rows))
        ids: Int[Tensor, "batch width"] = torch.zeros(len(rows), width, dtype=torch.long)
        real = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(list(row))
            real[i, : len(row)] = True
        device = next(network.parameters()).device
        batch = Batch(ids[:, :-1], ids[:, 1:], real[:, :-1]).to(device)
        logits = log_softmax(network(batch).float(), -1).cpu()
        told = logits.gather(-1, ids[:, 1:, None])[..., 0]
        return torch.where(real[:, 1:], told, 0.0).sum(-1)


def _longer(pair: tuple[str, str]) -> int:
    """Returns the bytes of the longer sentence."""
    return max(len(sentence.encode()) for sentence in pair)
