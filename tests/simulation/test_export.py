import csv
import json

import pytest
import torch

from syncattn.nn import SoftmaxAttention
from syncattn.simulation.export import (
    export_network,
    read_network,
    write_network_csv,
    write_network_json,
)
from tests.simulation.star import layer


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("options", [{}, {"readout_power": 4, "readout_gain": 2.0}])
def test_what_is_read_back_gives_the_same_attention(tmp_path, dim, options):
    built, x = layer(dim, **options)
    network = export_network(built, x[:1], is_causal=True, bits=6)
    write_network_json(network, tmp_path / "network.json")
    again = read_network(tmp_path / "network.json")
    assert again == network
    expected = built.synchrony(x[:1], is_causal=True).weights[0].detach().double()
    torch.testing.assert_close(again.weights(), expected, atol=1e-5, rtol=1e-4)


def test_phases_integrated_by_hand_give_the_same_attention(tmp_path):
    """A phase simulator that knows only the CSV: Euler steps of the Kuramoto equation."""
    built, x = layer(2)
    network = export_network(built, x[:1], is_causal=True)
    write_network_csv(network, tmp_path / "network.csv")
    text = (tmp_path / "network.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 2 * 12 * 13 // 2
    phase = {}
    for head in range(1):
        for free in range(12):
            links = [
                (float(r["conductance"]) * float(r["anchor_amplitude"]), float(r["anchor_phase"]))
                for r in rows
                if (int(r["head"]), int(r["free_oscillator"])) == (head, free)
            ]
            strength = torch.tensor([w for w, _ in links], dtype=torch.float64)
            pull = torch.tensor([p for _, p in links], dtype=torch.float64)
            theta, step = torch.tensor(0.3, dtype=torch.float64), 0.5 / strength.sum()
            for _ in range(800):
                theta = theta + step * (strength * (pull - theta).sin()).sum()
            phase[head, free] = float(theta)
    theta = torch.tensor([[phase[h, i] for i in range(12)] for h in range(1)]).double()
    states = torch.stack([theta.cos(), theta.sin()], -1)
    both = torch.cat([states, network.states()[1:]])
    torch.testing.assert_close(network.weights(both), network.weights(), atol=1e-4, rtol=0)
    write_network_json(network, tmp_path / "network.json")
    told = json.loads((tmp_path / "network.json").read_text())["settled_phase"]
    turns = (torch.tensor(told[:1]).double() - theta).cos()
    torch.testing.assert_close(turns, torch.ones_like(turns), atol=1e-4, rtol=0)


def test_the_description_has_ranges_and_what_is_assumed():
    for dim, word in ((2, "phase"), (3, "macrospin"), (4, "quaternion"), (8, "no standard device")):
        built, x = layer(dim)
        network = export_network(built, x[:1], is_causal=True, bits=5)
        told = network.description()
        assert word in told["device"]
        assert told["coupling_largest"] > told["coupling_smallest"] > 0
        assert told["num_couplings"] == 2 * 78
        assert any("star topology" in line for line in told["assumptions"])
        rows = list(network.rows())
        assert max(row["normalised"] for row in rows) == 1
        assert {row["level"] for row in rows} <= set(range(32))
        assert ("anchor_phase" in rows[0]) is (dim == 2)


def test_what_cannot_be_exported_is_refused(tmp_path):
    built, x = layer()
    with pytest.raises(ValueError, match="`hidden_states` must hold one sequence"):
        export_network(built, x)
    with pytest.raises(ValueError, match="`bits`"):
        export_network(built, x[:1], bits=0)
    with pytest.raises(TypeError, match="`layer` must be an OscillatorAttention"):
        export_network(SoftmaxAttention(16, 2), x[:1])
    bad = tmp_path / "bad.json"
    for content in ("{}", "no json", '{"description": {"format": "other"}}'):
        bad.write_text(content)
        with pytest.raises(ValueError, match="`path` must be a file that write_network_json wrote"):
            read_network(bad)
