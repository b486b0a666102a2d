"""The wheel that is installed at a hospital holds every file of the packages, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("wardround", "common", "sites", "client", "server", "experiments")


@pytest.mark.slow
def test_the_wheel_holds_the_files_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    assert inside == {name for name in listed if "__pycache__" not in name}
    for needed in ("experiments/synthetic.yaml", "experiments/report/templates/report.html.j2",
                   "experiments/report/schema/report-2.json", "experiments/monitor/page/openapi.json"):  # fmt: skip
        assert needed in inside
    assert not any(name.startswith("tests") for name in inside)
