from __future__ import annotations

import subprocess
import sys

import pytest

from common.errors import DataError
from experiments.report.build import build_report
from experiments.report.document.report import from_json
from experiments.report.pages.sections import draw_plots
from experiments.report.write import render_report, write_report

FILES = ["report.html", "sites.csv", "summary.md", "model_card.md"]


def test_write_gives_all_files_and_render_the_same_but_one(make_run, tmp_path) -> None:
    report = build_report(make_run())
    paths = write_report(report, tmp_path / "out")
    plots = [f"plots/{name}.{kind}" for name in draw_plots(report) for kind in ("svg", "png")]
    assert [str(path.relative_to(tmp_path / "out")) for path in paths] == ["report.json", *FILES, *plots]
    assert sorted(path for path in tmp_path.joinpath("out").rglob("*") if path.is_file()) == sorted(paths)
    assert from_json(paths[0].read_text(encoding="utf-8")) == report
    before = [path.read_bytes() for path in paths]
    paths[1].unlink()
    paths[2].write_text("old")
    assert render_report(tmp_path / "out") == paths[1:]
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.slow
def test_render_needs_neither_data_nor_torch(make_run, tmp_path) -> None:
    folder = make_run()
    write_report(build_report(folder), folder)
    for name in ("federated.json", "run.json", "rounds.jsonl", "baselines.json", "events.jsonl", "report.html"):
        (folder / name).unlink()
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "flwr", "opacus", "pandas", "sklearn", "sites", "client", "server"):
            raise ImportError(f"{name} is not to be had")
sys.meta_path.insert(0, Refuse())
sys.argv = ["wardround", "report", sys.argv[1]]
from experiments.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "south (worst)" in done.stdout
    assert (folder / "report.html").is_file()


def test_a_write_that_fails_leaves_the_old_file(make_run, tmp_path, monkeypatch) -> None:
    report = build_report(make_run())
    write_report(report, tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(report.model_copy(update={"planned_rounds": 99}), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_render_needs_a_report(tmp_path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*report\.json"):
        render_report(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match=r"report\.json is not a wardround\.report/2: run"):
        render_report(tmp_path)


def test_a_plot_that_is_no_more_goes(make_run, tmp_path) -> None:
    report = build_report(make_run())
    write_report(report, tmp_path)
    paths = write_report(report.model_copy(update={"rounds": ()}), tmp_path)
    left = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"forest.png", "forest.svg"} <= left
    assert not {"curves.png", "curves.svg"} & left
    assert all(path.is_file() for path in paths)
