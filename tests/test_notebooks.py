"""The notebooks of the documentation run from their first cell to their last, and are stored without outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
SECONDS_A_CELL = 300
REAL_DATA = {"mitbih"}


def read_notebook(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def marked(name: str) -> Any:
    marks = [pytest.mark.slow, *([pytest.mark.realdata] if name in REAL_DATA else [])]
    return pytest.param(name, marks=marks)


def test_there_is_a_notebook_for_each_kind_of_reader() -> None:
    assert NAMES == ["mitbih", "own_table", "privacy_budget"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_no_outputs(name: str) -> None:
    for cell in read_notebook(name).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    recordings = ROOT / "data" / "mitdb"
    if name in REAL_DATA and not (recordings / "RECORDS").exists():
        pytest.skip("data/mitdb is not there")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("WARDROUND_MITDB", str(recordings))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read_notebook(name)
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert list((tmp_path / "runs").glob("*/report.html"))
