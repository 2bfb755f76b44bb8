import json

import matplotlib.image
import pytest

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
        ({"noise_intensity": -1.0}, "`noise_intensity` is a variance"),
    ],
)
def test_wrong_fields_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        simulate(config(tmp_path, **fields))


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`output` must be a folder"):
        simulate(config(tmp_path / "file"))
