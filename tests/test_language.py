"""The language of names and texts: plain technical English, without the private words of earlier versions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "sites", "client", "server", "experiments")
OLD_NAMES = ROOT / "common" / "old_names.py"
"""The one module that knows the names of earlier versions' files."""

UNCLEAR_WORDS = {
    *("told", "tell", "tells", "mend", "mends", "mended", "foretold", "foretell", "whom", "beside", "settled", "found"),
    *("lies", "begin", "begins", "begun", "began", "chance", "chances", "won", "wins", "asked", "manners", "shown"),
    *("kept", "seen", "least", "place", "places", "leave", "leaves"),
}
"""Words of no name: they do not say what it returns, does or holds. Nor does a name that starts or ends with "of"."""
STANDARD_TERMS = ("leave_one_out",)
"""Terms of the field that contain an unclear word. (A lead is a channel of an ECG, a lead time that of a warning.)"""
UNCLEAR_IN_TEXT = re.compile(r"\b(told|tells?|mend(s|ed|ing)?|foretold|foretells?|beside|settled|wins? back)\b", re.I)
FOREIGN = {"buffer.tell"}
"""Code of others that a text quotes."""

Definition = tuple[int, str]
"""A line and the name that it defines."""


def is_unclear(name: str) -> bool:
    """Return whether a name contains an unclear word, or starts or ends with "of"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower().strip("_")
    for term in STANDARD_TERMS:
        words = words.replace(term, "")
    parts = words.split("_")
    return bool(UNCLEAR_WORDS & set(parts)) or "of" in (parts[0], parts[-1])


def defined_names(code: str) -> Iterator[Definition]:
    """Yield every name that the code defines: functions, classes, variables, arguments, attributes, and keys.

    A key is a string of one word: a key of a dictionary, of a file or of a configuration, or one of its values.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w-]+", node.value):
            yield node.lineno, node.value


def shares_module_name(code: str, stem: str) -> bool:
    """Return whether a function at the top level of a module has the module's name; `main` may, as an entry point."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return stem != "main" and any(isinstance(node, kinds) and node.name == stem for node in ast.parse(code).body)


def configuration_keys(content: object) -> Iterator[str]:
    """Yield the keys of a configuration, at any depth."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key)
            yield from configuration_keys(value)
    elif isinstance(content, list):
        for item in content:
            yield from configuration_keys(item)


def code_files(*packages: str) -> list[Path]:
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py")) if path != OLD_NAMES]


def text_files() -> list[Path]:
    """Return the files whose texts people read: code, its templates and configurations, and documentation."""
    templates = [
        path for ending in ("yaml", "j2", "js") for path in sorted((ROOT / "experiments").rglob(f"*.{ending}"))
    ]
    return [*code_files(*PACKAGES), *templates, *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def test_no_function_shares_the_name_of_its_module() -> None:
    shared = {
        str(path.relative_to(ROOT))
        for path in code_files(*PACKAGES)
        if shares_module_name(
            path.read_text(encoding="utf-8"), path.parent.name if path.stem == "__init__" else path.stem
        )
    }
    assert shared == set()


def test_names_and_keys_are_clear() -> None:
    unclear = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in code_files(*PACKAGES)
        for line, name in defined_names(path.read_text(encoding="utf-8"))
        if is_unclear(name)
    }
    assert unclear == set()


def test_names_of_modules_are_clear() -> None:
    names = {str(path.relative_to(ROOT)) for path in code_files(*PACKAGES) if is_unclear(path.stem)}
    assert names == set()


def test_keys_of_configurations_and_of_the_published_schema_are_clear() -> None:
    files = [*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "experiments" / "report" / "schema").glob("*.json")]
    assert len(files) > 10
    foreign = {"anyOf"}  # a word of JSON Schema
    unclear = {
        f"{path.name}: {key}"
        for path in files
        for key in configuration_keys(yaml.safe_load(path.read_text(encoding="utf-8")))
        if is_unclear(key) and key not in foreign
    }
    assert unclear == set()


def test_texts_are_plain() -> None:
    unclear = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNCLEAR_IN_TEXT.search(line) and not any(term in line for term in FOREIGN)
    }
    assert unclear == set()


@pytest.mark.parametrize("name", ["of", "of_split", "rows_of", "_range_of", "told", "is_mended", "SiteTold", "LEAST"])
def test_unclear_names_are_recognised(name: str) -> None:
    assert is_unclear(name)


@pytest.mark.parametrize(
    "name", ["table_of_extra_column", "toldest", "office", "leave_one_out", "leave-one-out", "lead_hours", "LeadTimes"]
)
def test_clear_names_are_recognised(name: str) -> None:
    assert not is_unclear(name)


def test_the_checks_see_what_they_forbid() -> None:
    assert shares_module_name("async def score(): ...", "score")
    assert not shares_module_name("def score(): ...\nclass scores: ...", "scores")
    assert not shares_module_name("class A:\n    def score(self): ...", "score")
    assert not shares_module_name("def main(): ...", "main")
    code = (
        "class A:\n    b: int\n    def c(self, d):\n        self.e = lambda f: {'g': d}\n        h, i.j = k(l=m['n'])"
    )
    assert {name for _, name in defined_names(code)} == {"A", "b", "c", "self", "d", "e", "f", "g", "h", "j", "n"}
    assert list(configuration_keys({"a": [{"b": 1}], "c": {"d": "e"}})) == ["a", "b", "c", "d"]
    assert all(map(UNCLEAR_IN_TEXT.search, ("what a site Tells", "wins back", "beside it")))
    assert not UNCLEAR_IN_TEXT.search("recommended; a detell; besides")
