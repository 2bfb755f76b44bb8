"""What the guides show works."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.mark.parametrize("name", ["transformers", "convert", "train", "distributed"])
def test_every_example_prints_what_it_says(name):
    text = (GUIDES / f"{name}.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    promised = re.findall(r"print\(.*\)  # (.*)", blocks)
    assert promised
    out = io.StringIO()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(out):
        exec(blocks, {})
    assert out.getvalue().splitlines() == promised
