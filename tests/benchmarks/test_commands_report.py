import pytest
from rich.console import Console

from syncattn.benchmarks.commands_report import ReportConfig, write_report
from syncattn.cli import main
from tests.benchmarks.finished_run import finished_run, training_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("run") / "run", ("softmax", "kuramoto"), (0,))


def test_the_command_writes_one_file_and_says_where(run, tmp_path, capsys):
    output = tmp_path / "deep" / "r.html"
    assert main(["report", str(run), "--output", str(output), "--text", "near, far"]) == 0
    assert f"Written: {output}" in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ["r.html"]
    page = output.read_text(encoding="utf-8")
    assert "kuramoto costs 0.3000 bits per byte more than softmax, on one seed." in page
    assert "syncattn compare --output run" in page
    assert "syncattn report" in page
    assert "--text &#39;near, far&#39;" in page


def test_several_runs_share_a_page(run, tmp_path):
    other = training_run(tmp_path / "single")
    output = write_report(ReportConfig((run, other, run), tmp_path / "r.html"), Console(quiet=True))
    page = output.read_text(encoding="utf-8")
    assert "<title>Report: run and single</title>" in page
    assert page.count('<section id="run') == 2


def test_what_is_left_out_is_said(run, tmp_path, capsys):
    (tmp_path / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes() + b'{"\x1b')
    assert main(["report", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "line 3, is passed over" in said
    assert "No trained model is kept" in said
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["NONE"], "`runs` must be folders"),
        (["RUN", "NONE"], "`runs` must be folders"),
        (["RUN", "--text", "x"], "`text` must have at least two bytes"),
        (["RUN", "--output", "RUN"], "`output` must be a file"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(run, tmp_path, capsys, words, named):
    places = {"RUN": str(run), "NONE": str(tmp_path / "none")}
    assert main(["report", *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"syncattn: error: {named}")
    assert error.count("\n") == 1
