"""Makes every picture of the gallery anew: `python docs/gallery/make.py`, about a minute.

Models of two layers are trained on made-up sentences for some seconds each; the pictures show how
to look, not how good a mechanism is.
"""

import argparse
import random
import shutil
import tempfile
from pathlib import Path

import torch

from syncattn.analysis import (
    attention_weights,
    head_divergence,
    learning_curves,
    loss_by_copy_depth,
    save_figure,
    token_losses,
)
from syncattn.analysis.head_figures import checkpoint_curves, divergence_map, head_map, lock_graph
from syncattn.analysis.heads import MEASURES, measure_heads
from syncattn.analysis.observation import observe
from syncattn.analysis.phase_figures import (
    coupling_curves,
    frustration_histograms,
    loss_curves,
    order_curves,
)
from syncattn.analysis.settling_figures import settling_curves
from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.simulate import simulate
from syncattn.benchmarks.simulate_population import SimulateConfig
from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM

HERE = Path(__file__).parent
MECHANISMS = ("softmax", "selective", "oscillator", "kuramoto", "frustrated")
TEXT = b"a clock beside the doors ticks."
STEPS, LENGTH, LIMIT = 80, 48, 90_000


def sentences(seed, number=700):
    """Returns text in which a verb agrees with a noun that stands further off."""
    draw = random.Random(seed)
    nouns, verbs = ("clock", "pump", "door", "wave"), ("tick", "turn", "drift", "lock")
    lines = []
    for _ in range(number):
        subject, other, verb = draw.choice(nouns), draw.choice(nouns), draw.choice(verbs)
        one, many = draw.random() < 0.5, draw.random() < 0.5
        lines.append(
            f"{'a ' if one else 'the '}{subject}{'' if one else 's'} beside the "
            f"{other}{'s' if many else ''} {verb}{'s' if one else ''}."
        )
    return torch.tensor(list("\n".join(lines).encode()))


def windows(data, rows, generator):
    """Returns random windows of the text."""
    starts = torch.randint(len(data) - LENGTH, (rows,), generator=generator)
    return torch.stack([data[i : i + LENGTH] for i in starts.tolist()])


@torch.no_grad()
def bits(model, rows):
    """Returns the bits a byte of held-out windows costs."""
    return float(token_losses(model(rows).logits, rows).mean()) / 0.6931471805599453


def trained(mechanism, seed, train, valid):
    """Returns a model, its learning curve, and what it did with the text on the way."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = SyncAttnConfig(
        mechanism=mechanism, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=LENGTH,
    )  # fmt: skip
    model = SyncAttnForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=ARMS[mechanism].learning_rate)
    curve, looks = [], []
    for step in range(STEPS + 1):
        if step % 20 == 0:
            model.eval()
            point = {"tokens": 8 * LENGTH * step, "valid_bits_per_byte": bits(model, valid)}
            curve.append(point | {"seed": seed})
            if seed == 0 and (mechanism == "frustrated" or step == STEPS):
                looks.append((step, observe(model, TEXT)))
        model.train()
        rows = windows(train, 8, generator)
        token_losses(model(rows).logits, rows).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), curve, looks


class Picture:
    """One layer as the pictures of weights read it."""

    def __init__(self, layer):
        self.weights, self.order_parameter, self.locked = layer
        self.locked_fraction = None


def by_layer(seen, name):
    """Returns a measure of every layer and head."""
    return torch.stack([measure_heads(x, visible=seen.visible)[name] for x in seen.layers])


def pictures(models, curves, looks, valid):
    """Yields every picture that comes from the models, by name."""
    letters = [chr(byte) for byte in TEXT]
    selective, oscillator = looks["selective"][-1][1], looks["oscillator"][-1][1]
    frustrated = looks["frustrated"][-1][1]
    yield "learning", learning_curves(curves, title="Five mechanisms, two seeds each")
    yield (
        "weights",
        attention_weights(
            [Picture(layer) for layer in selective.layers], letters, mechanism="selective",
            legend=ARMS["selective"].legend, visible=selective.visible,
        ),
    )  # fmt: skip
    names = ("order_parameter", "locked_fraction", "clusters", "entropy",
             "effective_neighbours", "effective_rank")  # fmt: skip
    yield (
        "heads",
        head_map(
            {MEASURES[name]: by_layer(selective, name) for name in names},
            limits={MEASURES[name]: (0.0, 1.0) for name in ("order_parameter", "locked_fraction")},
            title="Heads of selective synchronization",
            caption="Means over the tokens of one sentence.",
        ),
    )
    yield (
        "divergence",
        divergence_map(torch.stack([head_divergence(layer.weights) for layer in selective.layers])),
    )
    locking = selective.locking[0]
    head = int(locking.locked_fraction.argmin())
    yield "lock_graph", lock_graph(
        selective.layers[0].locked[head], letters, cutoff=float(locking.cutoff_radius[head]),
        title=f"Lock graph of layer 1, head {head + 1}",
    )  # fmt: skip
    yield "coupling", coupling_curves(frustrated.coupling[0], title="Coupling functions, layer 1")
    yield "frustration", frustration_histograms(frustrated.frustration[0])
    order = frustrated.order_by_head
    yield (
        "harmonics",
        head_map(
            {f"harmonic {m + 1}": order[..., m] for m in range(3)},
            limits={f"harmonic {m + 1}": (0.0, 1.0) for m in range(3)}, first_layer=0,
            title="Order parameter by layer, head and harmonic",
            caption="Frustrated synchronization on one sentence; layer 0 is the embedding.",
        ),
    )  # fmt: skip
    yield "order", order_curves(order.mean(1))
    settling = oscillator.settling[0]
    yield (
        "settling",
        settling_curves(
            settling.drive, settling.settling_time, title="Drive and settling, oscillator attention"
        ),
    )
    steps = [step for step, _ in looks["frustrated"]]
    yield (
        "checkpoints",
        checkpoint_curves(
            {
                MEASURES[name]: torch.stack([by_layer(x, name).mean(-1) for _, x in
                                             looks["frustrated"]])
                for name in ("order_parameter", "effective_neighbours", "effective_rank")
            },
            steps, title="Frustrated synchronization through training", caption="Means over heads.",
        ),
    )  # fmt: skip
    yield (
        "copy_depth",
        loss_curves({
            name: loss_by_copy_depth(token_losses(model(valid).logits, valid), valid)
            for name, model in models.items()
        }),
    )


def transition(folder):
    """Writes the transition of a population of Kuramoto oscillators."""
    simulate(SimulateConfig(num_oscillators=300, num_couplings=11, duration=30.0, output=folder))
    return folder / "kuramoto"


def keep(base, name, output):
    """Keeps the vector picture where it is small, the dots where it is not."""
    kind = "svg" if base.with_suffix(".svg").stat().st_size <= LIMIT else "png"
    for other in ("svg", "png"):
        (output / f"{name}.{other}").unlink(missing_ok=True)
    shutil.copy(base.with_suffix(f".{kind}"), output / f"{name}.{kind}")
    print(f"{name}.{kind}: {(output / f'{name}.{kind}').stat().st_size / 1000:.0f} kB")


def main():
    """Trains, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the pictures")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    train, held_out = sentences(0), sentences(1)
    valid = windows(held_out, 24, torch.Generator().manual_seed(0))
    models, curves, looks = {}, {}, {}
    for name in MECHANISMS:
        runs = [trained(name, seed, train, valid) for seed in (0, 1)]
        models[name], _, looks[name] = runs[0]
        curves[name] = [point for _, curve, _ in runs for point in curve]
        print(f"{name}: {curves[name][-1]['valid_bits_per_byte']:.2f} bits a byte")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        here = Path(folder)
        for name, figure in pictures(models, curves, looks, valid):
            save_figure(figure, here / name, dpi=110)
            keep(here / name, name, output)
        keep(transition(here / "transition"), "transition", output)


if __name__ == "__main__":
    main()
