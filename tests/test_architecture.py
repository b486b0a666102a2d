"""Which way imports point. That `server` cannot reach `sites` is a promise about privacy, so it is a test."""

from __future__ import annotations

import ast
import subprocess
import sys
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
}
RECORDS = {"ArrayRecord", "ConfigRecord", "MetricRecord"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(code: str, package: str) -> set[str]:
    """Return what the code imports, at any depth; `a.b` for `from a import b`."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
            found |= {f"{base}.{item.name}" for item in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return found


def wrong_imports(code: str, package: str) -> set[str]:
    return {
        name
        for name in imported(code, package)
        if name.split(".")[0] in OURS and name.split(".")[0] not in MAY_IMPORT[package]
    }


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    found = sources(package)
    assert found
    wrong = {
        str(path.relative_to(ROOT)): bad
        for path in found
        if (bad := wrong_imports(path.read_text(encoding="utf-8"), package))
    }
    assert wrong == {}


def test_the_check_of_imports_sees_every_form() -> None:
    forms = (
        "import sites",
        "import sites.mitdb as m",
        "from sites import mitdb",
        "from sites.mitdb import read",
        "def f():\n    from sites import mitdb",
        "if TYPE_CHECKING:\n    import sites.cohort",
        "importlib.import_module('sites.mitdb')",
        "__import__('sites')",
    )
    for code in forms:
        assert wrong_imports(code, "server"), code
        assert not wrong_imports(code, "client"), code
    assert not wrong_imports("import sitesx\nfrom . import rounds\nfrom common import sites", "server")


def test_a_server_that_runs_has_no_reader_of_patients_in_memory() -> None:
    loaded = loaded_after("import server.app, server.rounds, server.link")
    assert loaded & {"sites", "client", "wfdb"} == set()


def test_only_messages_builds_or_opens_flower_records() -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in sources(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RECORDS)
        or (isinstance(node, ast.Attribute) and node.attr in {"array_records", "config_records", "metric_records"})
    }
    assert users == {"common/messages.py"}


def test_the_client_app_loads_no_torch() -> None:
    loaded = loaded_after("import client.app")
    assert "flwr" in loaded
    assert loaded & {"torch", "sklearn", "wfdb", "pandas", "matplotlib", "scipy"} == set()


def test_the_command_line_starts_light() -> None:
    loaded = loaded_after("import experiments.cli")
    assert "typer" in loaded
    assert loaded & {"torch", "flwr", "pandas", "matplotlib", "sklearn", "scipy", "wfdb", "ray", "numpy"} == set()


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from experiments.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'flwr', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "run" in result.stdout
    assert "client" in result.stdout


def test_no_folder_of_code_has_a_package_of_ours_that_no_rule_names() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)
