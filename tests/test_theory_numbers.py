"""Equations that code and tests cite by number stand on a page of theory, once."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
THEORY = sorted((ROOT / "docs" / "theory").glob("*.md"))
EXTENSION = (ROOT / "docs" / "_extensions" / "equations.py").read_text(encoding="utf-8")
NUMBER = re.compile(re.search(r'^NUMBER = re.compile\(r"(.+)"\)$', EXTENSION, re.M)[1])
OPENING = re.compile(r"\*\*\(([A-Z]{2}-\d+)\)\*\*")
EQUATIONS = Counter(
    number for page in THEORY for number in OPENING.findall(page.read_text(encoding="utf-8"))
)


def files():
    for folder, kinds in (("src", ("py", "c")), ("tests", ("py",)), ("docs", ("md",))):
        for kind in kinds:
            for path in sorted((ROOT / folder).rglob(f"*.{kind}")):
                if "_build" not in path.parts and "generated" not in path.parts:
                    yield path


def test_no_number_is_given_twice():
    assert EQUATIONS
    assert [number for number, count in EQUATIONS.items() if count > 1] == []


def test_every_number_belongs_to_a_known_series():
    assert [number for number in EQUATIONS if not NUMBER.fullmatch(number)] == []


def test_a_page_counts_without_gaps():
    for page in THEORY:
        numbers = OPENING.findall(page.read_text(encoding="utf-8"))
        assert len({number[:2] for number in numbers}) == 1
        counted = sorted(int(number[3:]) for number in numbers)
        assert counted == list(range(1, len(counted) + 1)), page.name


def test_every_equation_is_cited_by_the_code_or_its_tests():
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in files()
        if path.suffix != ".md" and path.name not in {Path(__file__).name, "test_scripts.py"}
    )
    cited = set(NUMBER.findall(text))
    for series, first, last in re.findall(r"\b([A-Z]{2})-(\d+) to \1-(\d+)", text):
        cited |= {f"{series}-{n}" for n in range(int(first), int(last) + 1)}
    assert sorted(EQUATIONS.keys() - cited) == []


def test_every_citation_has_its_equation():
    missing = [
        f"{path.relative_to(ROOT)} cites {number}"
        for path in files()
        for number in NUMBER.findall(path.read_text(encoding="utf-8"))
        if number not in EQUATIONS
    ]
    assert missing == []


def test_every_marked_citation_is_one():
    # What stands behind `theory:` begins with a number, unless it is a parameter of that name.
    marked = re.compile(r"#\s*theory:\s*(\S+)")
    wrong = [
        f"{path.relative_to(ROOT)}: {cited}"
        for path in files()
        if path.suffix == ".py" and path != Path(__file__)
        for cited in marked.findall(path.read_text(encoding="utf-8"))
        if not NUMBER.match(cited)
    ]
    assert wrong == []
