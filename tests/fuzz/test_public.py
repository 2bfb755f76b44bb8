"""Every shelf that the pages list is fuzzed, or says why not."""

import re
from pathlib import Path

import syncattn
from syncattn import functional, nn
from tests.fuzz import law

FOLDER = Path(__file__).parent
API = (FOLDER.parents[1] / "docs" / "api" / "index.md").read_text(encoding="utf-8")
FUZZED = {
    "syncattn.functional": "test_functional",
    "syncattn.nn": "test_nn",
    "syncattn.models": "test_models",
    "syncattn.models.text.byte_tokenizer": "test_models",
    "syncattn.models.text.encode": "test_models",
    "syncattn.models.text.generate_text": "test_models",
    "syncattn.training": "test_models",
    "syncattn.data": "test_data",
    "syncattn.simulation": "test_simulation",
    "syncattn.simulation.sensitivity": "test_simulation",
    "syncattn.simulation.costs": "test_simulation",
    "syncattn.analysis": "test_analysis",
    "syncattn.analysis.heads": "test_analysis",
    "syncattn.benchmarks": "test_benchmarks",
    "syncattn.benchmarks.arms": "test_benchmarks",
    "syncattn.benchmarks.tasks": "test_benchmarks",
}
WHY_NOT = {
    "syncattn.reference": "the definition checks nothing: it judges what comes through the others",
    "syncattn.functional.context_parallel": "needs a group; see test_context_parallel",
    "syncattn.analysis.explorer": "loads a network; what it refuses is in test_explorer",
    "syncattn.analysis.explorer_switches": "the switches of the explorer, see there",
    "syncattn.analysis.head_figures": "figures are looked at, and tested in tests/analysis",
    "syncattn.analysis.phase_figures": "figures",
    "syncattn.analysis.settling_figures": "figures",
    "syncattn.analysis.transition": "figures",
    "syncattn.benchmarks.problems": "made by tasks, see test_problems",
    "syncattn.models.export": "a trace of seconds a call; what it refuses is in test_export",
}


def test_every_shelf_of_the_pages_is_here():
    listed = set(re.findall(r"^   (syncattn[\w.]+)$", API, re.MULTILINE))
    assert listed == FUZZED.keys() | WHY_NOT.keys()


def test_every_fuzzed_shelf_has_a_test_that_counts_its_names():
    for shelf, test in FUZZED.items():
        text = (FOLDER / f"{test}.py").read_text(encoding="utf-8")
        assert "budget(" in text and "__all__" in text, shelf


def test_the_top_shelf_holds_nothing_else():
    others = {"BackendUnavailableError", "functional", "fuse", "nn", "reference"}
    assert set(syncattn.__all__) - others <= set(functional.__all__) | set(nn.__all__)


def test_the_shares_of_all_files_add_up_to_the_budget():
    texts = [path.read_text(encoding="utf-8") for path in FOLDER.glob("test_*.py")]
    shares = [float(x) for text in texts for x in re.findall(r"(?m)^@budget\(([\d.]+)\)", text)]
    assert abs(sum(shares) - 1) < 1e-9


def test_continuous_integration_runs_twenty_thousand(monkeypatch):
    for variable, cases in (("CI", 20_000), ("NOTHING", 10_000)):
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.delenv("SYNCATTN_FUZZ_CASES", raising=False)
        monkeypatch.setenv(variable, "true")
        assert law.number_of_cases() == cases
