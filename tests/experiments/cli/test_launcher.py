"""The `wardround` command from its first moment on: Ctrl-C, and packages that shadow Wardround's."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from experiments.cli.launcher import main
sys.argv = ["wardround", "doctor"]
main()
"""


@pytest.mark.parametrize("module", ["typer", "click", "experiments.cli.data"])
def test_an_interrupt_while_the_command_loads_has_no_traceback(module: str) -> None:
    code = INTERRUPTED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "wardround: stopped\n")


@pytest.mark.parametrize("regular", [True, False])
def test_a_package_that_shadows_ours_is_named(tmp_path: Path, regular: bool) -> None:
    (tmp_path / "server").mkdir()
    if regular:
        (tmp_path / "server" / "__init__.py").touch()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n" if regular else ""
    code += "from experiments.cli import launcher\n"
    if not regular:  # a folder without __init__.py never shadows a package
        code += f"sys = __import__('sys'); sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "import sys\nsys.argv = ['wardround', '--help']\nlauncher.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    if not regular:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"the package server that Python imports is {tmp_path / 'server' / '__init__.py'}, not Wardround's" in line
    assert str(ROOT / "server") in line


def test_the_command_of_the_installed_package_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"wardround": "experiments.cli.launcher:main"}
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert "/experiments" in included  # with the YAML files that `wardround run NAME` finds
