import math

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from syncattn.data.features import log_mel, mel_filters


def _independent(wave):
    """The same features from SciPy's transform and filters built triangle by triangle."""
    padded = np.pad(wave, 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = hann(400, sym=False)
    transform = ShortTimeFFT(window, 320, 16_000, fft_mode="onesided", mfft=512, phase_shift=None)
    first = [padded[i * 320 : i * 320 + 512] * window for i in range(49)]
    power = np.abs(np.array([np.fft.rfft(frame) for frame in first])) ** 2
    assert transform.f_pts == 257
    mel = np.linspace(0, 2595 * math.log10(1 + 8_000 / 700), 42)
    edges = [700 * (10 ** (m / 2595) - 1) for m in mel]
    filters = np.zeros((257, 40))
    for k, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for i, f in enumerate(transform.f):
            if low <= f <= middle:
                filters[i, k] = (f - low) / (middle - low)
            elif middle < f <= high:
                filters[i, k] = (high - f) / (high - middle)
    return 10 * np.log10(np.maximum(power @ filters, 1e-10))


def test_features_are_those_of_an_independent_implementation():
    wave = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    ours = log_mel(wave)
    assert ours.shape == (49, 40)
    np.testing.assert_allclose(ours.numpy(), _independent(wave.double().numpy()), atol=2e-3)


def test_a_tone_lights_up_its_own_bin():
    time = torch.arange(16_000) / 16_000
    filters = mel_filters(num_bins=40, num_frequencies=257, sample_rate=16_000)
    for frequency in (440.0, 2_000.0, 5_000.0):
        loudest = log_mel((2 * math.pi * frequency * time).sin())[10:40].mean(0).argmax()
        nearest = filters[round(frequency / 8_000 * 256)].argmax()
        assert abs(int(loudest) - int(nearest)) <= 1


def test_batches_and_silence():
    wave = torch.zeros(2, 3, 16_000)
    features = log_mel(wave, num_frames=None)
    assert features.shape == (2, 3, 51, 40)
    assert (features == -100).all()


def test_filters_overlap_by_halves():
    filters = mel_filters(num_bins=20, num_frequencies=4_001, sample_rate=16_000)
    inner = slice(filters[:, 0].argmax(), filters[:, -1].argmax())
    torch.testing.assert_close(filters[inner].sum(-1), torch.ones(inner.stop - inner.start))


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="`num_bins`"):
        mel_filters(num_bins=0, num_frequencies=257, sample_rate=16_000)
