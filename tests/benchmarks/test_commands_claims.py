import io
import shlex
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from syncattn.benchmarks import commands_claims
from syncattn.benchmarks.claims import CLAIMS, Claim, Measured, known_claims
from syncattn.benchmarks.commands import RunConfig
from syncattn.benchmarks.commands_claims import (
    ClaimsConfig,
    ListClaimsConfig,
    RunClaimConfig,
    run_claims,
)
from syncattn.benchmarks.records import append_record
from tests.benchmarks.benchmark_small import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def console():
    return Console(file=io.StringIO())


def flat(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_every_claim_is_listed_with_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_claims(ClaimsConfig(ListClaimsConfig())) == 0
    text = flat(capsys)
    assert "ssa-natural-sparsity: not checked" in text
    assert "oscillator-keywords: not checked" in text and "run the laptop preset" in text
    assert "ssa-speed: holds in part" in text


def test_the_ledger_can_be_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_claims(ClaimsConfig(ListClaimsConfig(markdown=True)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert {line.replace("\\|", "").count("|") for line in lines} == {7}


def test_records_are_found_below_a_folder_that_has_none_itself(tmp_path, console):
    for name in ("a", "b/deeper"):
        append_record(tmp_path / name / "records.jsonl", record(arm=name))
    found = commands_claims._records((tmp_path,), console)
    assert [one.arm for one in found] == ["a", "b/deeper"]
    append_record(tmp_path / "records.jsonl", record(arm="own"))
    assert [one.arm for one in commands_claims._records((tmp_path,), console)] == ["own"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`records` must be .*empty"):
        commands_claims._records((tmp_path / "empty",), console)


def test_one_claim_is_reproduced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_claims(ClaimsConfig(RunClaimConfig("oscillator-operations"))) == 0
    assert "verdict: holds figure: 48,216, 24,402" in flat(capsys)
    assert run_claims(ClaimsConfig(RunClaimConfig("frustrated-scales"))) == 1
    with pytest.raises(ValueError, match="`name` must be a claim"):
        run_claims(ClaimsConfig(RunClaimConfig("perpetuum")))


def test_a_claim_of_trained_models_is_reproduced_from_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def judged(tables):
        rows = {row.arm: row for table in tables for row in table.rows}
        return Measured("holds", f"{sorted(rows)}, {rows['softmax'].tokens} tokens")

    claim = Claim(
        "tiny", "", "", "syncattn benchmark run --tasks copy --arms softmax kuramoto "
        "--scale smoke --steps 2 --workers 1 --data FOLDER", from_records=judged,
    )  # fmt: skip
    monkeypatch.setitem(CLAIMS, "tiny", claim)
    config = RunClaimConfig("tiny", again=True, output=tmp_path / "run")
    for _ in range(2):
        assert run_claims(ClaimsConfig(config)) == 0
        told = flat(capsys)
        assert "verdict: holds figure: ['kuramoto', 'softmax']," in told
    # The second time there is nothing left to run.
    assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 2
    with pytest.raises(
        ValueError, match=r"`again` must be left out .* whose command is syncattn c"
    ):
        run_claims(ClaimsConfig(RunClaimConfig("ssa-parameters", again=True)))


def test_a_run_that_failed_gives_its_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    claim = Claim("tiny", "", "", "syncattn benchmark run --tasks copy",
                  from_records=lambda _: Measured("holds", "1"))  # fmt: skip
    monkeypatch.setitem(CLAIMS, "tiny", claim)
    monkeypatch.setattr(commands_claims, "run_benchmark", lambda _: 1)
    (tmp_path / "records.jsonl").touch()
    config = RunClaimConfig("tiny", again=True, output=tmp_path)
    assert run_claims(ClaimsConfig(config)) == 1
    assert "verdict: holds" in flat(capsys)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("frustrated-copying", {"data": Path("d")}, "`data` must come with --again"),
        ("frustrated-copying", {"output": Path("o")}, "`output` must come with --again"),
        ("frustrated-copying", {"again": True, "records": (Path("r"),)}, "judges by its own run"),
        ("ssa-parameters", {"records": (Path("r"),)}, "no records judge, such as 'ssa-parameters'"),
        ("ssa-speed", {"records": (Path("r"),)}, "no records judge, such as 'ssa-speed'"),
    ],
)
def test_options_that_would_do_nothing_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run_claims(ClaimsConfig(RunClaimConfig(name, **options)))


@pytest.mark.parametrize("name", list(known_claims()))
def test_every_command_of_the_ledger_can_be_given(name):
    words = shlex.split(CLAIMS[name].command)
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()
        return
    assert words[0] == "syncattn"
    if words[1:3] == ["benchmark", "run"]:
        config = tyro.cli(RunConfig, args=words[3:])
        assert config.tasks
    elif words[1] == "claims":
        assert words[2:] == ["run", name]
        assert CLAIMS[name].measure is not None
    else:
        assert words[1] in {"compare", "benchmark", "device", "simulate"}
