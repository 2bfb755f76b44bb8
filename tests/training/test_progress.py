"""A run shows little where nobody watches, and its files are valid JSON."""

import json
from dataclasses import asdict

import pytest

from syncattn.training import CurvePoint
from syncattn.training.progress import Progress, RunFiles

POINT = CurvePoint(10, 100, 2.5, 2.75, 1e-3, 0.5, 1.5)


def test_away_from_a_terminal_there_is_a_line_per_point(capsys):
    with Progress("selective", steps=20, done=0, shown=True) as progress:
        for _ in range(10):
            progress.step()
        progress.point(POINT)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "selective: step 10/20, train 2.500, valid 2.750 bits/byte, 1.5 s\n"


def test_nothing_is_shown_when_not_wanted(capsys):
    with Progress("selective", steps=20, done=0, shown=False) as progress:
        progress.step()
        progress.point(POINT)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress("selective", steps=20, done=5, shown=True) as progress:
        progress.step()
        progress.point(POINT)
    out, err = capsys.readouterr()
    assert out == ""
    assert "selective" in err and "6/20" in err and "valid 2.750 bits/byte" in err


def test_the_curve_is_a_line_per_point_and_restarts_where_the_run_does(tmp_path):
    files = RunFiles(tmp_path / "a" / "run")
    files.start({"label": "x"}, [])
    files.add(POINT)
    files.add(POINT)
    lines = files.metrics.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(POINT)] * 2
    files.metrics.write_text(lines[0] + '\n{"step": 1')
    files.start({"label": "x"}, [POINT])
    assert files.metrics.read_text() == lines[0] + "\n"
    assert json.loads((files.directory / "training.json").read_text()) == {"label": "x"}


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`directory` must be a folder.*Choose another"):
        RunFiles(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="`directory` must be a folder"):
        RunFiles(tmp_path / "file")
