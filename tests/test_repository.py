"""What stands around the package: tree, workflows, citation, budgets, and what is never called."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
sys.path.insert(0, str(ROOT / "tools"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES, FUNCTION_LINES, USUAL_LINES, USUAL_SHARE = 400, 80, 40, 0.95


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_the_tree_in_the_readme_is_current():
    import readme_tree

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_tree.rewritten(text) == text, "run python tools/readme_tree.py"
    assert "  reference/" in text


def test_no_file_is_over_its_budget():
    # A Triton kernel cannot be cut where it pleases.
    budgets = {path: 600 if path.stem.endswith("_triton") else LINES for path in SOURCES}
    over = {name(path): n for path, most in budgets.items()
            if (n := len(path.read_text(encoding="utf-8").splitlines())) > most}  # fmt: skip
    assert not over, f"split by idea: {over}"


def code_lines(function):
    """Returns the lines of a function without its docstring."""
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return total - (first.end_lineno - first.lineno + 1 if text else 0)


def test_no_function_is_over_its_budget():
    sizes = {
        f"{name(path)}:{node.lineno} {node.name}": code_lines(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    over = {where: n for where, n in sizes.items() if n > FUNCTION_LINES and "_triton" not in where}
    assert not over, f"split by idea: {over}"
    usual = sum(n <= USUAL_LINES for n in sizes.values()) / len(sizes)
    assert usual >= USUAL_SHARE, f"only {usual:.1%} of the functions have at most {USUAL_LINES}"


def dotted(node):
    """Returns what a call names, like ``torch.load``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


FORBIDDEN = re.compile(
    r"(eval|exec|compile|__import__|os\.system|os\.popen|(?:c?[pP]ickle|dill|joblib|marshal|shelve"
    r")\..*|yaml\.(?:unsafe_|full_)?load|numpy\.load|np\.load)"
)
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}


def unsafe(tree):
    """Returns what a module does that could run the code of a file it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            found += [module for module in names if module.split(".")[0] in UNSAFE_MODULES]
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if FORBIDDEN.fullmatch(called):
            found.append(called)
        if called == "torch.load":
            only = keywords.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                found.append("torch.load without weights_only=True")
        trusted = keywords.get("trust_remote_code")
        if trusted is not None and not (isinstance(trusted, ast.Constant) and not trusted.value):
            found.append(f"{called}(trust_remote_code=…)")
        if isinstance(keywords.get("shell"), ast.Constant) and keywords["shell"].value:
            found.append(f"{called}(shell=True)")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_that_is_read_can_run(path):
    assert not unsafe(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "line",
    ["eval('1')", "import pickle", "from pickle import load", "torch.load('x')",
     "torch.load('x', weights_only=False)", "yaml.load(x)", "f(trust_remote_code=True)",
     "subprocess.run('ls', shell=True)", "f(trust_remote_code=given)"],
)  # fmt: skip
def test_the_search_for_unsafe_calls_finds_them(line):
    assert unsafe(ast.parse(line))


def workflow(kind):
    yaml = pytest.importorskip("yaml", reason="workflows are YAML; PyYAML comes with transformers")
    path = ROOT / ".github" / "workflows" / f"{kind}.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    return content, content.get("on", content.get(True))


@pytest.mark.parametrize("kind", ["checks", "docs", "release"])
def test_workflows_hold_together(kind):
    content, when = workflow(kind)
    assert when and content["permissions"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in content["jobs"].values():
        assert job["timeout-minutes"] > 0 and job["runs-on"]
        for needed in (
            [job.get("needs", [])] if isinstance(job.get("needs"), str) else job.get("needs", [])
        ):
            assert needed in content["jobs"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                assert f"\n{target}:" in makefile, f"make {target} is no target"


def test_the_matrix_covers_what_the_metadata_promises():
    content, _ = workflow("checks")
    tested = set(map(str, content["jobs"]["tests"]["strategy"]["matrix"]["python"]))
    promised = {text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"]
                if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", text)}  # fmt: skip
    assert tested == promised
    oldest = re.search(r"torch>=([\d.]+)", " ".join(PROJECT["dependencies"]))[1]
    assert any(
        str(value).startswith(oldest)
        for value in content["jobs"]["tests"]["strategy"]["matrix"]["torch"]
    )


def test_every_kind_of_dependency_is_kept_up_to_date():
    yaml = pytest.importorskip("yaml", reason="the settings are YAML")
    path = ROOT / ".github" / "dependabot.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["version"] == 2
    kinds = {update["package-ecosystem"]: update for update in content["updates"]}
    assert kinds.keys() == {"github-actions", "pip"}
    assert all(u["directory"] == "/" and u["schedule"]["interval"] for u in kinds.values())
    # A library that narrows its bounds with every release of torch would serve nobody.
    assert kinds["pip"]["versioning-strategy"] == "increase-if-necessary"


def test_every_file_around_the_package_is_there():
    for file in ("CITATION.cff", "CHANGELOG.md", "LICENSE", "src/syncattn/py.typed"):
        assert (ROOT / file).is_file(), file
    assert PROJECT["scripts"] == {"syncattn": "syncattn.cli:main"}
    assert "Typing :: Typed" in PROJECT["classifiers"]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {least}" in PROJECT["classifiers"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = not PROJECT["version"].endswith(".dev0")
    assert f"## {PROJECT['version']}" in changelog if released else "## Unreleased" in changelog


def test_a_release_is_published_without_a_secret():
    content, when = workflow("release")
    assert when["push"]["tags"] == ["v*"]
    assert content["jobs"]["publish"]["permissions"]["id-token"] == "write"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_the_citation_names_the_package_and_every_paper():
    yaml = pytest.importorskip("yaml", reason="the citation is YAML")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": PROJECT["authors"][0]["name"]}]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"arxiv\.org/abs/([\d.]+\d)", readme))
    cited = {identifier["value"].removeprefix("arXiv:") for paper in citation["references"]
             for identifier in paper["identifiers"]}  # fmt: skip
    assert named and named <= cited


def test_the_hooks_refuse_unsafe_loads():
    yaml = pytest.importorskip("yaml", reason="the hooks are YAML")
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repo in content["repos"] for hook in repo["hooks"]}
    assert {"ruff-format", "ruff-check", "pyright", "import-linter", "no-unsafe-load"} <= set(hooks)
    entry = hooks["no-unsafe-load"]["entry"]
    assert re.search(entry, "torch.load(path)") and not re.search(
        entry, "torch.load(p, weights_only=True)"
    )
