import pytest

from syncattn.benchmarks.commands_claims import (
    ClaimsConfig,
    ListClaimsConfig,
    RunClaimConfig,
    run_claims,
)


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


def test_one_claim_is_reproduced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_claims(ClaimsConfig(RunClaimConfig("oscillator-operations"))) == 0
    assert "verdict: holds figure: 48,216, 24,402" in flat(capsys)
    assert run_claims(ClaimsConfig(RunClaimConfig("frustrated-scales"))) == 1
    with pytest.raises(ValueError, match="`name` must be a claim"):
        run_claims(ClaimsConfig(RunClaimConfig("perpetuum")))
