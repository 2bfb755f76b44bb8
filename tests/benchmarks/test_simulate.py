import json

import matplotlib.image
import pytest

from syncattn.analysis.transition import transition_figure
from syncattn.benchmarks import simulate as simulation
from syncattn.benchmarks.simulate import SimulateConfig, simulate


def config(folder, **more):
    small = {"num_oscillators": 40, "num_couplings": 3, "duration": 4.0, "output": folder}
    return SimulateConfig(**(small | more))


def test_a_figure_and_a_record(tmp_path):
    folder = tmp_path / "new"
    paths = simulate(config(folder, coupling_strength=2.5, seed=3))
    assert [path.name for path in paths] == ["kuramoto.png", "kuramoto.svg", "kuramoto.json"]
    assert matplotlib.image.imread(paths[0])[..., :3].std() > 0.05
    record = json.loads(paths[2].read_text(encoding="utf-8"))
    assert record["seed"] == 3
    assert record["critical_coupling"] == pytest.approx(1.0)
    assert record["coupling_strength"] == pytest.approx([0.0, 1.875, 3.75])
    assert record["theory"][2] == pytest.approx((1 - 1 / 3.75) ** 0.5)
    assert set(record["simulated"]) == {"incoherent", "synchronized"}
    assert len(record["simulated"]["incoherent"]["order_parameter"]) == 3
    assert 0 < record["population"]["mean_order_parameter"] < 1
    assert record["population"]["status"] == "Finished at time 4."
    assert record["config"]["density"] is None
    assert record["wall_seconds"] > 0
    assert record["command"].startswith("syncattn")
    assert {"versions", "device", "commit"} <= set(record)


@pytest.mark.parametrize(
    ("fields", "theory"),
    [
        # Frustration weakens what attracts, not what turns; rotations are stepped through.
        ({"system": "sakaguchi", "frustration": 1.5, "largest_coupling": 36.0}, 0.778),
        ({"system": "lohe", "frequency_width": 10.0, "largest_coupling": 3.0}, 0.522),
    ],
)
def test_the_step_that_is_chosen_is_short_enough(tmp_path, fields, theory):
    given = config(tmp_path, num_oscillators=200, num_couplings=2, duration=24.0, **fields)
    record = json.loads(simulate(given)[2].read_text(encoding="utf-8"))
    assert record["theory"][-1] == pytest.approx(theory, abs=0.005)
    for start in ("incoherent", "synchronized"):
        found = record["simulated"][start]["order_parameter"][-1]
        assert found == pytest.approx(theory, abs=0.06)


def test_the_coupling_shown_in_detail_counts_for_the_step(tmp_path):
    given = {"coupling_strength": 100.0, "largest_coupling": 10.0}
    record = json.loads(simulate(config(tmp_path / "a", **given))[2].read_text(encoding="utf-8"))
    assert record["step"] <= 0.005
    with pytest.raises(ValueError, match=r"`step` must be at most 2\.785 / 100"):
        simulate(config(tmp_path / "b", step=0.05, **given))
    assert not (tmp_path / "b").exists()


def test_the_figure_marks_the_group_that_the_record_counts(tmp_path, monkeypatch):
    seen = []

    def draw(branches, population, **options):
        seen.append(population)
        return transition_figure(branches, population, **options)

    monkeypatch.setattr(simulation, "transition_figure", draw)
    given = config(tmp_path, system="sakaguchi", frustration=1.2, coupling_strength=3.4,
                   num_oscillators=100, duration=20.0)  # fmt: skip
    record = json.loads(simulate(given)[2].read_text(encoding="utf-8"))
    share = record["population"]["locked_fraction"]
    assert 0.1 < share < 0.9
    assert seen[0].locked.double().mean() == pytest.approx(share)


def test_the_seed_decides_the_numbers(tmp_path):
    def numbers(folder, seed):
        given = config(tmp_path / folder, seed=seed, both_starts=False, noise_intensity=0.1)
        record = json.loads(simulate(given)[2].read_text(encoding="utf-8"))
        return record["simulated"], record["population"]

    assert numbers("a", 0) == numbers("b", 0)
    assert numbers("a", 0) != numbers("c", 1)


@pytest.mark.parametrize("system", ["sakaguchi", "daido", "shil", "lohe"])
def test_every_system_is_drawn(tmp_path, system):
    paths = simulate(config(tmp_path, system=system, largest_coupling=2.0, step=0.1))
    record = json.loads(paths[2].read_text(encoding="utf-8"))
    assert record["step"] == 0.1
    assert record["coupling_strength"][-1] == 2.0
    assert (record["population"]["locked_fraction"] is None) == (system == "lohe")
    assert ("second_harmonic" in record["simulated"]["incoherent"]) == (system in {"daido", "shil"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coupling_strength": 0.0}, "`coupling_strength` must be"),
        ({"num_oscillators": 1}, "`num_oscillators` must be at least 2"),
        ({"num_couplings": 1}, "`num_couplings` must be at least 2"),
        ({"duration": -1.0}, "`duration` must be"),
        ({"step": 0.0}, "`step` must be"),
        ({"step": 3.0}, "`step` must be at most"),
        ({"seed": 10**20}, "`seed` must be at most"),
        ({"system": "daido", "harmonic_amplitude": ()}, "`harmonic_amplitude` must hold one"),
        ({"noise_intensity": -1.0}, "`noise_intensity` is a variance"),
    ],
)
def test_wrong_fields_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        simulate(config(tmp_path, **fields))


@pytest.mark.parametrize("inside", ["file", "file/deeper"])
def test_a_file_in_the_way_is_refused(tmp_path, inside):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`output` must be a folder"):
        simulate(config(tmp_path / inside))
