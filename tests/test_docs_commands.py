"""Every command line of the pages runs, page by page, as a reader would give them, only smaller."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from syncattn import cli
from tests.benchmarks.small import TEXT
from tests.test_docs import DOCS, PAGES, ROOT, blocks, commands, name

GUIDES = DOCS / "guides"

TINY_RUN = {"--steps": "2", "--batch-size": "2", "--context-length": "24", "--hidden-size": "16",
            "--num-layers": "1", "--num-heads": "2", "--parameters": "16000", "--workers": "1",
            "--sample-length": "4", "--max-bytes": "40000", "--no-compiled": None}  # fmt: skip
TINY_GRID = {"--preset": "smoke", "--tasks": "copy", "--arms": "softmax selective",
             "--controls": "none", "--seeds": "0", "--workers": "1",
             "--no-compiled": None}  # fmt: skip
LEFT_OUT = object()
SMALLER = {
    "compare": TINY_RUN,
    "generate": {"--max-new-tokens": "3"},
    "simulate": {"--num-oscillators": "20", "--num-couplings": "3", "--duration": "2"},
    "device": {"--num-tokens": "48", "--seeds": "0", "--effects": "anchor-error"},
    "benchmark run": TINY_GRID,
    "benchmark check": {"--tasks": "copy", "--arms": "softmax", "--scale": "smoke"},
    "benchmark kernels": {"--lengths": "16", "--heads": "1", "--head-dim": "4", "--repeats": "1"},
    "benchmark list": {}, "benchmark table": {}, "benchmark compare": {}, "claims list": {},
    "claims run": {"--again": LEFT_OUT}, "report": {}, "explore": {"--port": "0"},
}  # fmt: skip
"""What each command is given in place of its own value, or besides. None: an option alone."""
OF_A_COMPARISON = ("runs/mine", "runs/demo", "runs/other", "runs/first")
OF_A_GRID = ("runs/row", "FOLDER_OF_A_RUN", "BEFORE", "AFTER", "results/laptop")
ELSEWHERE = {"docs/guides/add_operator.md": "tests/test_docs_operator.py",
             "docs/guides/benchmark_your_own.md": "tests/benchmarks/test_guide.py"}  # fmt: skip


def lines(page):
    """Returns the command lines of ours on a page, without the program."""
    return [words[1:] for words in commands(page) if words[0].endswith("syncattn")]


def smaller(words):
    """Returns a command line with the options that make it short."""
    two = " ".join(words[:2])
    changes, kept = SMALLER[two if two in SMALLER else words[0]], []
    dropping = False
    for word in words:
        dropping = word in changes or (dropping and not word.startswith("--"))
        if not dropping:
            kept.append(word)
    added = [
        [option, *shlex.split(value or "")]
        for option, value in changes.items()
        if value is not LEFT_OUT
    ]
    # What stands in front of the options would be taken for more values of theirs.
    first = next((i for i, word in enumerate(kept) if word.startswith("--")), len(kept))
    return kept[:first] + [word for option in added for word in option] + kept[first:]


PAGES_WITH_COMMANDS = [page for page in PAGES if lines(page) and name(page) not in ELSEWHERE]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a comparison, a grid and a text, as a reader has them from the page before."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "my-texts").mkdir()
    (folder / "my-texts" / "a.txt").write_text(TEXT, encoding="utf-8")
    compare = ["compare", "--corpus", str(folder / "my-texts"), "--output", str(folder / "run"),
               "--mechanisms", "selective", "oscillator", "frustrated"]  # fmt: skip
    assert cli.main(smaller(compare)) == 0
    assert cli.main(smaller(["benchmark", "run", "--output", str(folder / "grid")])) == 0
    return folder


@pytest.fixture
def nobody_waits(monkeypatch):
    """A server that stops at once, as by the keyboard, and no browser."""
    from syncattn.analysis import explorer_app
    from syncattn.benchmarks import explore

    class Stopped:
        def run(self, sockets):
            assert sockets
            raise KeyboardInterrupt

    monkeypatch.setattr(explorer_app, "make_server", lambda app: Stopped())
    monkeypatch.setattr(explore.webbrowser, "open", lambda url: True)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name)
def test_every_command_of_a_page_runs(page, made, nobody_waits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "my-texts", tmp_path / "my-texts")
    (tmp_path / "FOLDER").mkdir()
    own = {words[i + 1] for words in lines(page) for i, w in enumerate(words) if w == "--output"}
    for kind, names in (("run", OF_A_COMPARISON), ("grid", OF_A_GRID)):
        for target in set(names) - own:
            shutil.copytree(made / kind, tmp_path / target)
    for words in lines(page):
        assert cli.main(smaller(words)) == 0, f"syncattn {shlex.join(words)}: {capsys.readouterr()}"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_a_launcher_starts_the_training_of_the_guide(launcher, tmp_path):
    script = blocks(GUIDES / "train.md", "python")[0]
    for own, shared in (
        ("folder = Path(tempfile.mkdtemp())", 'folder = Path("made")'),
        ('(folder / "corpus.txt").write_text(text)', ""),
    ):
        assert own in script
        script = script.replace(own, shared)
    (tmp_path / "my_training.py").write_text(script, encoding="utf-8")
    (tmp_path / "made").mkdir()
    text = "".join(f"{n} times {n} is {n * n}\n" for n in range(400))
    (tmp_path / "made" / "corpus.txt").write_text(text, encoding="utf-8")
    (words,) = [words for words in commands(GUIDES / "distributed.md") if words[0] == launcher]
    run = subprocess.run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]], cwd=tmp_path,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    # Two processes may print between each other's line and its end.
    assert run.stdout.count("[10, 20]") == run.stdout.count("True") == 2
    curve = (tmp_path / "made" / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert len(curve.splitlines()) == 2


def test_a_smaller_command_is_still_the_command():
    words = shlex.split("compare --mechanisms softmax selective --steps 100 --output runs/first")
    found = smaller(words)
    assert found[0] == "compare" and found.count("--steps") == 1
    assert found[found.index("--steps") + 1] == "2" and "100" not in found
    assert found[-5:] == ["--mechanisms", "softmax", "selective", "--output", "runs/first"]
    assert smaller(["report", "a", "b", "--output", "c"]) == ["report", "a", "b", "--output", "c"]


@pytest.mark.parametrize("page", [p for p in PAGES if lines(p)], ids=name)
def test_every_command_can_be_made_smaller(page):
    if name(page) in ELSEWHERE:
        assert (ROOT / ELSEWHERE[name(page)]).is_file()
        return
    for words in lines(page):
        cli._parse(smaller(words), [words[0]])
