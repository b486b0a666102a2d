"""Leaving hospitals out: who trains, what the difference is made of, and going on where it was stopped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from common.config import load_config
from common.errors import ConfigError, SiteError
from common.metrics.counts import accuracy
from common.metrics.counts_file import load_tables
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from common.scaling import Scaling
from experiments.baselines import networks
from experiments.cli import run_progress
from experiments.report.document import report as reports
from experiments.runs import leave_one_out, run
from server import app
from server.run import digest_weights
from tests import tiny
from tests.server.phases.test_rounds import plain_rounds
from tests.server.phases.test_scaling import vitals
from tests.wire import FakeGrid, build_request, site_script

CONFIG = """
data: {options: {hospitals: 2, patients: 6, minutes: 0.5, leads: 1}}
model: {options: {widths: [4], hidden: 4}}
training: {batch_size: 32, device: cpu}
federation: {rounds: 1, choose: last}
evaluation: {bootstrap: 20, bins: 64}
baselines: {local: false, pooled: true}
sites: {validation: 0}
"""


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {"north": tiny.site("north", 1), "south": tiny.site("south", 2), "west": tiny.site("west", 3)}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def lead(sites: dict[str, Site], config: Any, out: Path) -> Any:
    grid = FakeGrid([site_script(site) for site in sites.values()])
    app.run_federation(grid, config, out)
    asked = {
        kind: {list(sites)[node - 1] for node, item in grid.sent if item.kind == kind}
        for kind in ("train", "validate", "scaling", "test")
    }
    return json.loads((out / "federated.json").read_text()), asked


def test_an_external_hospital_is_tested_and_nothing_else(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(sites__external=["west"], training__loss="weighted")
    done, asked = lead(sites, config, tmp_path)
    assert asked == {
        "train": {"north", "south"},
        "validate": {"north", "south"},
        "scaling": set(),
        "test": {"north", "south", "west"},
    }
    assert set(done["test"]["all"]) == {"north", "south", "west"}
    others = {name: site for name, site in sites.items() if name != "west"}
    expected = [digest_weights(weights) for weights in plain_rounds(others, config)]
    rounds = [json.loads(line)["weights"] for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert rounds == expected


def test_nothing_is_scaled_or_chosen_by_an_external_hospital(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"north": vitals("north", 1), "south": vitals("south", 2), "west": vitals("west", 9)}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    config = tiny.run_config(
        model={"name": "logreg"}, evaluation__threshold="utility", evaluation__metric="utility",
        sites__external=["west"],
    )  # fmt: skip
    done, asked = lead(found, config, tmp_path / "three")
    assert asked["scaling"] == asked["validate"] == {"north", "south"}
    rows = np.concatenate([found[name].train.features for name in ("north", "south")]).astype(np.float64)
    scaling = Scaling.from_bytes((tmp_path / "three" / "scaling.safetensors").read_bytes())
    np.testing.assert_allclose(scaling.centre, np.nanmean(rows, 0))
    del found["west"]
    alone, _ = lead(
        found, config.model_copy(update={"sites": config.sites.model_copy(update={"external": ()})}), tmp_path / "two"
    )
    assert (done["weights"], done["threshold"]) == (alone["weights"], alone["threshold"])


def test_a_hospital_refuses_to_train_where_it_is_external(sites: dict[str, Site]) -> None:
    config = tiny.run_config(sites__external=["west"])
    answer = site_script(sites["west"])
    for kind in ("train", "validate", "scaling"):
        with pytest.raises(SiteError, match="only tested"):
            answer(build_request(kind, config, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("external", "why"), [(["east"], "east is not in the federation"), (["north", "south", "west"], "none is left")]
)
def test_external_hospitals_that_cannot_be(
    sites: dict[str, Site], tmp_path: Path, external: list[str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        lead(sites, tiny.run_config(sites__external=external), tmp_path)


def test_baselines_leave_external_hospitals_out(
    sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("client.site.read_site", lambda place, config: list(sites.values())[place.index])
    weights = {}
    for name, count, external in (("three", 3, ["west"]), ("two", 2, [])):
        (tmp_path / name).mkdir()
        config = tiny.run_config(sites__external=external)
        assert networks.train_baselines(config, tmp_path / name, count) == {}
        weights[name] = (tmp_path / name / "model.pooled.safetensors").read_bytes()
    assert weights["three"] == weights["two"]
    models = json.loads((tmp_path / "three" / "baselines.json").read_text())["models"]
    assert [item["name"] for item in models] == ["pooled", "local:north", "local:south"]
    assert set(models[0]["test"]["all"]) == {"north", "south", "west"}


@pytest.fixture(name="done", scope="module")
def _done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("leave-out")
    path = root / "two.yaml"
    path.write_text(CONFIG)
    folder = root / "out"
    folder.mkdir()
    return path, folder, leave_one_out.run_leave_one_out(path, [], folder, run_progress.QuietPrinter())


@pytest.mark.slow
def test_each_hospital_is_left_out_once(done: tuple[Path, Path, Path]) -> None:
    path, folder, first = done
    summary = json.loads((folder / "leave-one-out.json").read_text())
    names = leave_one_out.list_left_out_hospitals(load_config(path))
    assert [item["site"] for item in summary["sites"]] == names
    within = load_tables(first / "counts.safetensors")
    for item in summary["sites"]:
        site = item["site"]
        fold = reports.from_json((Path(item["folder"]) / "report.json").read_text())
        assert fold.external == (site,)
        page = re.sub(r"<[^>]*>", "", (Path(item["folder"]) / "report.html").read_text())  # terms are links
        assert f"{site}: external validation only" in page
        assert fold.federated is not None
        assert item["external"] == json.loads(fold.federated.sites[site].model_dump_json())
        assert item["internal"]["patients"] == item["external"]["patients"]
        without = load_tables(Path(item["folder"]) / "counts.safetensors")[site]
        change = item["difference"]["accuracy"]
        assert change["value"] == pytest.approx(
            item["external"]["accuracy"]["value"] - item["internal"]["accuracy"]["value"]
        )
        drawn = [accuracy(tables[ALL_PATIENTS + RESAMPLED_SUFFIX].confusion) for tables in (without, within[site])]
        assert change["low"] <= np.quantile(drawn[0] - drawn[1], 0.025)  # few patients move the percentiles outwards
        assert change["high"] >= np.quantile(drawn[0] - drawn[1], 0.975)
    values = {item["site"]: item["external"]["macro_f1"]["value"] for item in summary["sites"]}
    assert summary["worst"]["site"] == min(values, key=lambda site: values[site])
    report = reports.from_json((first / "report.json").read_text())
    assert [item.site for item in report.left_out] == names
    assert report.left_out_worst is not None
    page = (first / "report.html").read_text()
    assert "Leave one hospital out" in page
    text = (folder / "leave-one-out.md").read_text()
    assert text.startswith("> SYNTHETIC")
    assert all(f"| {site} |" in text for site in names)


@pytest.mark.slow
def test_it_goes_on_where_it_was(done: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder, first = done
    ran: list[Path] = []
    original = run.resume_experiment

    def resume(folder: Path, *rest: Any) -> Path:
        ran.append(folder)
        return original(folder, *rest)

    monkeypatch.setattr(run, "run_experiment", lambda *_: pytest.fail("a run was started anew"))
    monkeypatch.setattr(run, "resume_experiment", resume)
    assert leave_one_out.run_leave_one_out(path, [], folder, run_progress.QuietPrinter()) == first
    assert ran == []
    summary = json.loads((folder / "leave-one-out.json").read_text())
    gone = Path(summary["sites"][1]["folder"])
    about = json.loads((gone / "run.json").read_text())
    (gone / "run.json").write_text(json.dumps(about | {"status": "interrupted"}))
    assert leave_one_out.run_leave_one_out(path, [], folder, run_progress.QuietPrinter()) == first
    assert ran == [gone]
    assert json.loads((gone / "run.json").read_text())["status"] == "complete"


def test_one_hospital_cannot_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(CONFIG)
    names = leave_one_out.list_left_out_hospitals(load_config(path))
    with pytest.raises(ConfigError, match="at least two"):
        leave_one_out.run_leave_one_out(path, [f"sites.external=[{names[0]}]"], tmp_path, run_progress.QuietPrinter())
