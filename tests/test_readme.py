"""What the README shows works."""

import contextlib
import io
import re
from pathlib import Path

from syncattn.cli import _COMMANDS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_python_example_prints_what_it_says():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(block, {})
        promised = re.findall(r"print\(.*\)  # (.*)", block)
        assert promised
        assert out.getvalue().splitlines() == promised


def test_every_command_exists():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    named = set(re.findall(r"bin/syncattn (\w+)", README))
    assert named
    assert named <= set(_COMMANDS)
