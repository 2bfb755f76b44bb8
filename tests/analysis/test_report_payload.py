import base64

import numpy as np
import torch

from syncattn.analysis.observation import Observation, PhaseFilm
from syncattn.analysis.report_payload import (
    UNKNOWN,
    chosen,
    matrix_payload,
    phase_payload,
    token_labels,
)
from syncattn.nn import Synchrony


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_labels_show_every_byte():
    assert token_labels(b"a \n\x00\xe2") == ["a", "·", "⏎", "\\x00", "\\xe2"]


def test_chosen_keeps_both_ends():
    assert chosen(3, 5) == [0, 1, 2]
    assert chosen(12, 4) == [0, 4, 7, 11]
    assert chosen(12, 1) == [0]


def test_weights_locks_and_orders_come_back():
    torch.manual_seed(0)
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    weights = torch.rand(3, 5, 5).masked_fill(~visible, 0)
    weights[0, 4, 0] = 1e-9
    order = torch.rand(3, 5)
    order[1, 0] = torch.nan
    locked = torch.rand(3, 5, 5) > 0.5
    seen = Observation("selective", b"abcde", [Synchrony(weights, order, locked)], visible)
    found = matrix_payload(seen, [0], [0, 2])
    back = unpack(found["weights"], "<u2").reshape(2, 5, 5)
    np.testing.assert_allclose(back / 65534, weights[[0, 2]], atol=2e-5)
    # A weight above nothing is never shown as none.
    assert ((back > 0) == (weights[[0, 2]].numpy() > 0)).all()
    bits = np.unpackbits(unpack(found["locked"], "u1"), bitorder="little")[:50]
    assert (bits.reshape(2, 5, 5) == locked[[0, 2]].numpy()).all()
    orders = unpack(found["order"], "<u2").reshape(2, 5)
    np.testing.assert_allclose(orders / 65534, order[[0, 2]], atol=2e-5)
    assert unpack(matrix_payload(seen, [0], [1])["order"], "<u2")[0] == UNKNOWN
    assert found["heads"] == [1, 3]


def test_a_layer_without_oscillators_packs_none():
    seen = Observation("softmax", b"ab", [Synchrony(torch.eye(2)[None])], torch.eye(2).bool())
    found = matrix_payload(seen, [0], [0])
    assert found["locked"] is None
    assert found["order"] is None


def test_phases_come_back():
    phase = torch.linspace(-3.1, 3.1, 24).reshape(2, 3, 2, 2).clone()
    phase[0, 0, 0, 0] = torch.nan
    found = phase_payload(PhaseFilm(phase, ["a", "b"], ""), [0, 2], 1)
    assert found["shape"] == [2, 2, 2, 1]
    back = unpack(found["phase"], "<i2").reshape(2, 2, 2, 1)
    assert back[0, 0, 0, 0] == -32768
    np.testing.assert_allclose(back[1] / 32767 * np.pi, phase[1, [0, 2], :, :1], atol=1e-4)
