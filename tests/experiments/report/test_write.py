from __future__ import annotations

import pytest

from common.errors import DataError
from experiments.report import write as writing
from experiments.report.build import build
from experiments.report.model import from_json
from experiments.report.write import render, write


def test_write_gives_three_files_and_render_the_same_two(make_run, tmp_path) -> None:
    report = build(make_run())
    paths = write(report, tmp_path / "out")
    assert [path.name for path in paths] == ["report.json", "report.html", "sites.csv"]
    assert sorted(tmp_path.joinpath("out").iterdir()) == sorted(paths)
    assert from_json(paths[0].read_text(encoding="utf-8")) == report
    before = [path.read_bytes() for path in paths]
    paths[1].unlink()
    paths[2].write_text("old")
    assert render(tmp_path / "out") == paths[1:]
    assert [path.read_bytes() for path in paths] == before


def test_a_write_that_fails_leaves_the_old_file(make_run, tmp_path, monkeypatch) -> None:
    report = build(make_run())
    write(report, tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(writing.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(report.model_copy(update={"planned_rounds": 99}), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_render_needs_a_report(tmp_path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*report\.json"):
        render(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match=r"not a wardround\.report/1: run"):
        render(tmp_path)
