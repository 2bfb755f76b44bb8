"""What the pages show works: their Python is run, their commands are run or parsed.

Of the commands those in `RUN` are run as they stand. All others may take minutes, data or a
cluster: the command line of `syncattn` must parse (and runs, smaller, in `test_docs_commands`),
scripts, tests and targets must exist, and scripts must know the options they are given.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import torch

from syncattn import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md",
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
]  # fmt: skip
TESTED_ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "docs/guides/transformers.md": "tests/models/test_guides.py",
    "docs/guides/convert.md": "tests/models/test_guides.py",
    "docs/guides/train.md": "tests/models/test_guides.py",
    "docs/guides/distributed.md": "tests/models/test_guides.py",
    "docs/guides/benchmark_your_own.md": "tests/benchmarks/test_guide.py",
    "docs/guides/add_operator.md": "tests/test_docs_operator.py",
}
RUN = {
    "syncattn benchmark list",
    "syncattn claims run oscillator-operations",
}
# Commands of other projects; nothing of ours can be checked in them but the script they start.
OF_OTHERS = {"accelerate", "torchrun", "source", "pip", "python3"}


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, *languages):
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return ["".join(block) for block in found]


def run_python(page):
    """Runs the blocks of a page one after another, as a reader would, and returns the output."""
    out = io.StringIO()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(out):
        exec("\n".join(blocks(page, "python")), {"__name__": "__main__"})
    return out.getvalue().splitlines()


WITH_PYTHON = [p for p in PAGES if blocks(p, "python") and name(p) not in TESTED_ELSEWHERE]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_every_python_example_prints_what_it_says(page):
    promised = re.findall(r"print\(.*\)  # (.*)", "\n".join(blocks(page, "python")))
    promised += re.findall(r"^\]?\)  # (.*)", "\n".join(blocks(page, "python")), re.MULTILINE)
    assert promised, "an example should say what it prints"
    assert sorted(run_python(page)) == sorted(promised)


@pytest.mark.parametrize("page", TESTED_ELSEWHERE)
def test_what_is_tested_elsewhere_is(page):
    assert (ROOT / page).is_file()
    test = (ROOT / TESTED_ELSEWHERE[page]).read_text(encoding="utf-8")
    assert Path(page).stem in test


def commands(page):
    """Returns the command lines of a page, without their comments."""
    for block in blocks(page, "console", "sh", "bash", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


WITH_COMMANDS = [p for p in PAGES if any(commands(p))]


def parse(words):
    try:
        cli._parse(words, [words[0]] if words[0] in cli._COMMANDS else list(cli._COMMANDS))
    except SystemExit as exit:
        pytest.fail(f"`syncattn {shlex.join(words)}` does not parse: {exit}")


def check_script(words, page):
    script = ROOT / words[0]
    assert script.is_file(), f"{words[0]} does not exist"
    text = script.read_text(encoding="utf-8")
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in text, f"{words[0]} does not know {option}"


def check_command(words, page):
    program = Path(words[0]).name
    if program == "syncattn":
        parse(words[1:])
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{words[1]}:" in makefile, f"the Makefile has no target {words[1]}"
    elif program == "python":
        check_script(words[1:], page)
    elif program == "pytest":
        known = page.read_text(encoding="utf-8")
        assert (ROOT / words[1]).exists() or f"# {words[1]}\n" in known
    else:
        assert program in OF_OTHERS, f"say in the tests how to check {program}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
def test_every_command_parses(page, capsys):
    for words in commands(page):
        check_command(words, page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_the_text_exists(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for command in re.findall(r"`(?:\.venv/bin/)?syncattn ([a-z]+)", text):
        assert command in cli._COMMANDS
    for script in re.findall(r"`python ([\w/]+\.py)", text):
        assert (ROOT / script).is_file(), f"{script} does not exist"


@pytest.mark.parametrize("command", sorted(RUN))
def test_cheap_commands_run(command, capsys, monkeypatch, tmp_path):
    assert any(shlex.split(command) in list(commands(page)) for page in PAGES) or any(
        f"`{command}`" in page.read_text(encoding="utf-8") for page in PAGES
    ), "nobody shows it any more"
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.strip()


def test_a_command_that_does_not_exist_is_noticed():
    page = DOCS / "index.md"
    for wrong in ("syncattn benchmark run --presets smoke", "make tests", "cargo test",
                  "python benchmarks/agreement.py --no-such-option"):  # fmt: skip
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_command(shlex.split(wrong), page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_to_a_file_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{target} does not exist"
