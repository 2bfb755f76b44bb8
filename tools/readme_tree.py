"""Writes the tree in README.md from the captions of the packages; run it after adding one."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "syncattn"
# From the definition upwards; what is not named here follows in the order of the alphabet.
ORDER = ("reference", "kernels", "functional", "nn", "models", "simulation", "data", "training",
         "analysis", "benchmarks")  # fmt: skip
_BLOCK = re.compile(r"(## The tree\n\n```\n).*?(```\n)", re.DOTALL)


def caption(path: Path) -> str:
    """Returns the caption of a module: its docstring without the full stop.

    Args:
        path: The file.
    """
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").rstrip(".")


def tree() -> str:
    """Returns the lines of the tree: packages and public modules with their captions."""
    packages = {path.parent.name: path for path in PACKAGE.glob("[!_]*/__init__.py")}
    names = sorted(packages, key=lambda name: (ORDER.index(name) if name in ORDER else 99, name))
    lines = [(f"  {name}/", caption(packages[name])) for name in names]
    lines += [(f"  {path.name}", caption(path)) for path in sorted(PACKAGE.glob("[!_]*.py"))]
    lines.append(("tests/", "The same tree, file for file"))
    width = max(len(name) for name, _ in lines)
    body = "".join(f"{name:<{width}}  {text}\n" for name, text in lines)
    return f"src/syncattn/\n{body}"


def rewritten(text: str) -> str:
    """Returns the text of a README with the tree of today.

    Args:
        text: The README, with a block of code under "## The tree".
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{tree()}{found[2]}", text, count=1)


def main() -> int:
    """Writes the README; with ``--check`` only tells whether it is current."""
    text = README.read_text(encoding="utf-8")
    current = rewritten(text)
    if "--check" in sys.argv[1:]:
        return int(current != text)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
