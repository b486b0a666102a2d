"""The `wardround` command from its first moment on: Ctrl-C, and packages that shadow Wardround's."""

from __future__ import annotations

import os
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


def run_launcher(arguments: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys, os\n{before}\nsys.argv = ['wardround', *{arguments.split()!r}]\n"
    code += "from experiments.cli.launcher import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        check=False,
    )


def test_closed_streams_are_no_bug() -> None:
    assert run_launcher("--help", "sys.stdout = None").returncode == 0
    assert run_launcher("site explain", "sys.stdout = None").returncode == 0
    done = run_launcher("run none.yaml", "sys.stderr = None")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_lacks_a_character_shows_another(encoding: str) -> None:
    before = "import experiments.cli.main as m\nm.main = lambda: print(chr(0x256D) + 'a' + chr(0x4E2D))"
    done = run_launcher("--help", before, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, "?a?\n", "")


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    before = f"os.mkdir({str(tmp_path / 'gone')!r}); os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd())"
    done = run_launcher("site explain", before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("wardround: the working folder does not exist any more: change into another and run again\n")


def test_the_command_of_the_installed_package_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"wardround": "experiments.cli.launcher:main"}
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert "/experiments" in included  # with the YAML files that `wardround run NAME` finds


def test_the_end_of_python_has_no_objects_to_search() -> None:
    code = (
        "import atexit, gc, sys\natexit.register(lambda: print(gc.get_freeze_count() > 10_000))\n"
        "from experiments.cli.launcher import main\nsys.argv = ['wardround', '--version']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "True"
