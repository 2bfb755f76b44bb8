"""The gallery of the documentation: what it shows is what its one command makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "gallery" / "make.py"


def shown():
    """Returns the names of the pictures on the page, without their kind."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    return {Path(found).stem for found in re.findall(r"\]\(gallery/([^)]+)\)", page)}


def pictures(folder):
    return {path.name for path in folder.iterdir() if path.suffix in {".svg", ".png"}}


def test_the_page_shows_every_picture_of_the_script_and_no_other():
    made = set(re.findall(r"yield\s*\(?\s*\"(\w+)\"", SCRIPT.read_text(encoding="utf-8")))
    kept = {Path(name).stem for name in pictures(DOCS / "gallery")}
    assert shown() == made | {"transition"} == kept
    assert len(kept) == len(pictures(DOCS / "gallery"))


def test_every_picture_is_described():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert all(len(text.split()) > 3 for text in re.findall(r"!\[([^]]*)\]", page))


@pytest.mark.slow
def test_one_command_makes_every_picture(tmp_path):
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {Path(name).stem for name in pictures(tmp_path)} == shown()
    assert all(path.stat().st_size > 2_000 for path in tmp_path.iterdir())
