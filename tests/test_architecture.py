"""Which way imports point. That `server` cannot reach `sites` is a promise about privacy, so it is a test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("common", "sites", "client", "server", "experiments", "tests")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "common": ("common",),
    "sites": ("common", "sites"),
    "client": ("common", "sites", "client"),
    "server": ("common", "server"),
    "experiments": ("common", "sites", "client", "server", "experiments"),
    "wardround": ("experiments", "wardround"),
}
MOST_LINES = 350
RECORDS = {"ArrayRecord", "ConfigRecord", "MetricRecord"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def list_nodes(code: str) -> list[ast.AST]:
    """Return what the checks look at: imports, calls and attributes."""
    wanted = (ast.Import, ast.ImportFrom, ast.Call, ast.Attribute)
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, wanted)]


def imported(code: str, package: str) -> set[str]:
    """Return what the code imports, at any depth; `a.b` for `from a import b`."""
    actual = set()
    for node in list_nodes(code):
        if isinstance(node, ast.Import):
            actual |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
            actual |= {f"{base}.{item.name}" for item in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                actual.add(node.args[0].value)
    return actual


def wrong_imports(code: str, package: str) -> set[str]:
    return {
        name
        for name in imported(code, package)
        if name.split(".")[0] in OURS and name.split(".")[0] not in MAY_IMPORT[package]
    }


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph(codes: dict[str, str]) -> dict[str, set[str]]:
    """Return for each module the modules among `codes` that it imports, at any depth of its code."""
    graph = {}
    for name, code in codes.items():
        actual = set()
        for item in imported(code, name):
            parent = item.rpartition(".")[0]
            actual.add(item if item in codes else parent)
        graph[name] = {other for other in actual if other in codes and other != name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that import one another in a circle: those left when leaves are taken away."""
    left = {name: set(others) for name, others in graph.items()}
    while departures := {name for name, others in left.items() if not others}:
        left = {name: others - departures for name, others in left.items() if name not in departures}
    actual = []
    while left:
        first = sorted(left)[0]
        path = [first]
        while (following := sorted(left[path[-1]])[0]) not in path:
            path.append(following)
        circle = path[path.index(following) :]
        actual.append(sorted(circle))
        left = {name: others - set(circle) for name, others in left.items() if name not in circle}
        while departures := {name for name, others in left.items() if not others}:
            left = {name: others - departures for name, others in left.items() if name not in departures}
    return actual


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    actual = sources(package)
    assert actual
    wrong = {
        str(path.relative_to(ROOT)): bad
        for path in actual
        if (bad := wrong_imports(path.read_text(encoding="utf-8"), package))
    }
    assert wrong == {}


def test_the_check_of_imports_sees_every_form() -> None:
    forms = (
        "import sites",
        "import sites.splits as m",
        "from sites import splits",
        "from sites.splits import read",
        "def f():\n    from sites import splits",
        "if TYPE_CHECKING:\n    import sites.cohort",
        "importlib.import_module('sites.splits')",
        "__import__('sites')",
    )
    for code in forms:
        assert wrong_imports(code, "server"), code
        assert not wrong_imports(code, "client"), code
    assert not wrong_imports("import sitesx\nfrom . import rounds\nfrom common import sites", "server")


def test_a_server_that_runs_has_no_reader_of_patients_in_memory() -> None:
    loaded = loaded_after("import server.app, server.phases.train, server.superlink")
    assert loaded & {"sites", "client", "wfdb"} == set()


def test_only_messages_builds_or_opens_flower_records() -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in sources(package)
        for node in list_nodes(path.read_text(encoding="utf-8"))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RECORDS)
        or (isinstance(node, ast.Attribute) and node.attr in {"array_records", "config_records", "metric_records"})
    }
    openers = ("messages", "joint_messages", "packed_messages", "receipts", "wire_arrays")
    assert users == {f"common/{name}.py" for name in openers}


def test_the_client_app_loads_no_torch() -> None:
    loaded = loaded_after("import client.app")
    assert "flwr" in loaded
    assert loaded & {"torch", "sklearn", "wfdb", "pandas", "matplotlib", "scipy"} == set()


def test_the_command_line_starts_light() -> None:
    loaded = loaded_after("import experiments.cli.main")
    assert "typer" in loaded
    assert loaded & {"torch", "flwr", "pandas", "matplotlib", "sklearn", "scipy", "wfdb", "ray", "numpy"} == set()


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from experiments.cli.main import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'flwr', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "run" in result.stdout
    assert "client" in result.stdout


def test_no_folder_of_code_has_a_package_of_ours_that_no_rule_names() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


def test_no_modules_import_one_another_in_a_circle() -> None:
    codes = {module_name(path): path.read_text(encoding="utf-8") for name in MAY_IMPORT for path in sources(name)}
    assert circles(import_graph(codes)) == []


def test_the_check_of_circles_finds_them() -> None:
    codes = {"a.x": "from a import y", "a.y": "def f():\n    from a.z import g", "a.z": "import a.x", "a": "import os"}
    assert circles(import_graph(codes)) == [["a.x", "a.y", "a.z"]]
    assert circles(import_graph(codes | {"a.z": "import a"})) == []


def test_modules_fit_in_one_reading() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for name in MAY_IMPORT
        for path in sources(name)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_files_that_texts_name_exist() -> None:
    """Citations such as `client/site.py` in code and documentation must follow when a module moves."""
    pattern = re.compile(rf"(?<![\w/.-])(?:{'|'.join(OURS)})/[\w/]+\.(?:py|yaml|json|j2)\b")
    texts = [path for name in OURS for path in sources(name)]
    texts += [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").glob("*.yaml")]
    missing = {
        f"{path.relative_to(ROOT)}: {cited}"
        for path in texts
        if path.name != "CHANGELOG.md"
        for cited in pattern.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / cited).exists()
    }
    assert missing == set()
