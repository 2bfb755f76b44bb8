"""Log-mel features of speech, on `torch.stft`."""

from __future__ import annotations

import math

import torch

from syncattn import _validation as check
from syncattn._typing import Float, Tensor

__all__ = ["log_mel", "mel_filters"]


def mel_filters(
    *, num_bins: int, num_frequencies: int, sample_rate: int
) -> Float[Tensor, "frequencies bins"]:
    """Returns triangular filters, equally spaced on the mel scale from 0 to half the sample rate.

    The scale is 2595 log10(1 + f / 700); the triangles have height 1.

    Args:
        num_bins: Number of filters.
        num_frequencies: Points of a spectrum, from 0 to half the sample rate.
        sample_rate: Samples per second.

    Returns:
        ``(frequencies, bins)`` in float32.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a count is smaller than 1.
    """
    check.require_integer(num_bins, "num_bins", minimum=1)
    check.require_integer(num_frequencies, "num_frequencies", minimum=2)
    check.require_integer(sample_rate, "sample_rate", minimum=1)
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mel = torch.linspace(0, highest, num_bins + 2, dtype=torch.float64)
    edge = 700 * (10 ** (mel / 2595) - 1)
    frequency = torch.linspace(0, sample_rate / 2, num_frequencies, dtype=torch.float64)[:, None]
    rising = (frequency - edge[:-2]) / (edge[1:-1] - edge[:-2])
    falling = (edge[2:] - frequency) / (edge[2:] - edge[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(
    waveform: Float[Tensor, "*batch samples"],
    *,
    sample_rate: int = 16_000,
    num_bins: int = 40,
    fft_size: int = 512,
    window_size: int = 400,
    hop: int = 320,
    num_frames: int | None = 49,
) -> Float[Tensor, "*batch frames bins"]:
    """Returns the log-mel spectrogram in decibels, frames centred and mirrored at the ends.

    Args:
        waveform: Samples in [-1, 1].
        sample_rate: Samples per second.
        num_bins: Mel bins.
        fft_size: Points of the Fourier transform.
        window_size: Samples of the Hann window.
        hop: Samples between frames.
        num_frames: Frames to keep, the first ones; None keeps all.

    Returns:
        ``(*batch, frames, bins)``: ten times the decadic logarithm of the power, 1e-10 at least.

    References:
        | Attention by Synchronization in Coupled Oscillator Networks (arXiv 2606.12059), features
    """
    flat = waveform.reshape(-1, waveform.shape[-1])
    spectrum = torch.stft(
        flat, fft_size, hop, window_size, torch.hann_window(window_size, device=flat.device),
        center=True, pad_mode="reflect", return_complex=True,
    )  # fmt: skip
    power = spectrum.abs().square().mT
    filters = mel_filters(
        num_bins=num_bins, num_frequencies=power.shape[-1], sample_rate=sample_rate
    )
    bins = 10 * (power @ filters.to(power.device)).clamp(min=1e-10).log10()
    return bins[:, :num_frames].reshape(*waveform.shape[:-1], -1, num_bins)
