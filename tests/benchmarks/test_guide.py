import re
from pathlib import Path

import pytest

from syncattn.benchmarks.arms import ARMS
from syncattn.benchmarks.commands import BenchmarkConfig, CheckConfig, RunConfig, run_benchmark
from syncattn.benchmarks.records import read_records
from syncattn.benchmarks.scores import score_tables
from tests.benchmarks.benchmark_small import records_of

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "benchmark_your_own.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "drifting.py"
    path.write_text(blocks()[0])
    yield str(path)
    ARMS.pop("drifting", None)


def test_the_example_is_short():
    lines = [line for line in blocks()[0].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) < 30


def test_the_example_passes_the_checks_and_gets_a_full_row(plugin, tmp_path, capsys):
    check = CheckConfig(("copy", "agreement-v2"), ("drifting",), "smoke", samples=True,
                        plugins=(plugin,))  # fmt: skip
    assert run_benchmark(BenchmarkConfig(check)) == 0
    run = RunConfig(
        tasks=("copy",), arms=("softmax", "drifting"), scale="smoke", output=tmp_path / "run",
        controls=("none", "frozen", "bypass-identity", "bypass-mean", "random", "matched",
                  "coupling-off", "coupling-off-at-test"),
        plugins=(plugin,), workers=1,
    )  # fmt: skip
    assert run_benchmark(BenchmarkConfig(run)) == 0
    assert "random: a mixing of a third party need not have weights" in " ".join(
        capsys.readouterr().out.split()
    )
    records, _ = read_records(records_of(tmp_path / "run"))
    rows = {(r.arm, r.control): r for r in score_tables(records)[0].rows}
    row = rows["drifting", "none"]
    assert row.score and row.to_baseline and row.parameters and row.flops_per_token
    assert row.parameters == pytest.approx(rows["softmax", "none"].parameters, rel=0.01)
    assert {control for arm, control in rows if arm == "drifting"} == {
        "none", "frozen", "bypass-identity", "bypass-mean", "coupling-off", "coupling-off-at-test"
    }  # fmt: skip


def test_a_configuration_is_an_arm_too():
    exec(blocks()[1], {})
    assert ARMS.pop("frustrated-without-delay").options == {"num_delays": 1}
