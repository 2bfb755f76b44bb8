import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

from syncattn.benchmarks.explore import ExploreConfig, load_models, run_explore
from syncattn.benchmarks.records import append_record
from syncattn.benchmarks.runs import DamagedModelError
from syncattn.cli import main
from tests.analysis.explored import build
from tests.benchmarks.finished_run import record

app = pytest.importorskip(
    "syncattn.analysis.explorer_app", reason="needs the extra: pip install 'syncattn[explore]'"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    build("selective").save_pretrained(folder)
    return folder


def test_one_model_of_a_folder(saved):
    assert list(load_models(saved)) == ["selective"]


def test_a_comparison_without_a_finished_training(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "records.jsonl").write_text("")
    with pytest.raises(ValueError, match="the model of a training that ended well"):
        load_models(tmp_path / "run")


def test_a_model_that_is_gone_is_left_out(saved, tmp_path, capsys):
    run = tmp_path / "run"
    for arm in ("softmax", "selective"):
        run.mkdir(exist_ok=True)
        append_record(run / "records.jsonl", record(arm, 0))
    shutil.copytree(saved, run / "selective-seed0" / "model")
    assert list(load_models(run)) == ["selective"]
    assert "lacks their models: softmax." in capsys.readouterr().err
    damaged = run / "softmax-seed0" / "model"
    shutil.copytree(saved, damaged)
    (damaged / "model.safetensors").write_bytes(b"torn")
    assert list(load_models(run)) == ["selective"]
    assert "Left out: softmax." in capsys.readouterr().err
    shutil.copy(damaged / "model.safetensors", run / "selective-seed0" / "model")
    with pytest.raises(DamagedModelError, match="damaged"):
        load_models(run)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--max-length", "1"], "`max_length` must be between 2 and 1024"),
        (["--mechanism", "hopfield"], "`mechanism` must be one that the run trained: selective"),
        (["--port", "-1"], "`port`"),
        (["--port", "70000"], "`port` must be a free port"),
    ],
)
def test_bad_arguments_exit_with_2_and_one_sentence(saved, capsys, words, named):
    assert main(["explore", str(saved), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("syncattn: error: ")
    assert named in error
    assert error.count("\n") == 1


def test_a_port_in_use(saved, capsys):
    with app.listening_socket(0) as listening:
        assert main(["explore", str(saved), "--port", str(listening.getsockname()[1])]) == 2
    assert "`port` must be a free port" in capsys.readouterr().err


def test_not_a_run(tmp_path, capsys):
    assert main(["explore", str(tmp_path)]) == 2
    assert "`run` must hold records.jsonl or a saved model" in capsys.readouterr().err
    assert main(["explore", str(tmp_path / "none")]) == 2
    assert "which is missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(saved, monkeypatch, name):
    monkeypatch.delitem(sys.modules, "syncattn.analysis.explorer_app")
    monkeypatch.delattr("syncattn.analysis.explorer_app", raising=False)
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"needs {name}.*pip install 'syncattn\[explore\]'"):
        run_explore(ExploreConfig(saved))


@pytest.mark.slow
def test_the_command_answers_and_stops_on_the_keyboard(saved):
    command = [sys.executable, "-m", "syncattn.cli", "explore", str(saved), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:  # fmt: skip
        said = process.stdout.readline()
        address = said.split(" at ")[1].split()[0]
        with urllib.request.urlopen(f"{address}api/run", timeout=60) as reply:
            assert json.loads(reply.read())["models"][0]["name"] == "selective"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().strip() == "Stopped."
        assert process.wait(20) == 0
