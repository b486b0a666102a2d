"""Baselines of an earlier run are taken where data, settings and code are the same, and only there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.site import Site
from common.config import RunConfig
from experiments.baselines import networks, reuse, two_sample_test
from experiments.baselines.reuse import digest_baselines, find_other_input, train_or_reuse_baselines
from tests import tiny


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    result = [tiny.site("north", 1), tiny.site("south", 2)]
    monkeypatch.setattr(reuse, "load_site", lambda context, config: result[context.index])
    monkeypatch.setattr(networks, "load_site", lambda context, config: result[context.index])
    return result


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which baselines were trained, not taken."""
    folders: list[Path] = []
    train = networks.train_baselines

    def note_and_train(config: RunConfig, out: Path, *more: Any) -> dict[str, str]:
        folders.append(out)
        return train(config, out, *more)

    monkeypatch.setattr(networks, "train_baselines", note_and_train)
    return folders


def run(out: Path, cache: Path, **changes: Any) -> tuple[Path, list[str]]:
    out.mkdir()
    notes: list[str] = []
    config = tiny.run_config(data__cache=str(cache), **changes)
    assert train_or_reuse_baselines(config, out, 2, lambda *_: None, notes.append) == {}
    return out, notes


def read(out: Path) -> Any:
    return json.loads((out / "baselines.json").read_text())


def test_the_second_run_has_the_same_files_without_training(
    sites: list[Site], trained: list[Path], tmp_path: Path
) -> None:
    first, notes = run(tmp_path / "first", tmp_path / "cache")
    second, later = run(
        tmp_path / "second", tmp_path / "cache", federation__strategy={"name": "fedprox"}, title="again"
    )
    assert trained == [first]
    assert "--set baselines.local=false --set baselines.pooled=false" in notes[0]
    assert "taken from a run of" in later[0]
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert any(name.startswith("model.local") for name in names)
    for name in names:
        if name != "baselines.json":
            assert (first / name).read_bytes() == (second / name).read_bytes()
    old, new = read(first), read(second)
    assert new.pop("reused")
    assert old == new
    assert old["seconds"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 9},
        {"training__lr": 0.5},
        {"federation__rounds": 3},
        {"baselines__local": False},
    ],
)
def test_other_settings_train_anew(
    sites: list[Site], trained: list[Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    run(tmp_path / "first", tmp_path / "cache")
    second, _ = run(tmp_path / "second", tmp_path / "cache", **changes)
    assert trained[1:] == [second]


def change_example(site: Site) -> Site:
    x = site.test.features.copy()
    x[-1, -1] += 1e-6
    return replace(site, test=replace(site.test, features=x))


def change_person(site: Site) -> Site:
    return replace(site, train=replace(site.train, persons=(*site.train.persons[:-1], "another")))


def change_label(site: Site) -> Site:
    return replace(site, validation=replace(site.validation, y=site.validation.y[::-1].copy()))


def change_age(site: Site) -> Site:
    return replace(site, train=replace(site.train, age=np.full(len(site.train.patients), 50, np.float32)))


@pytest.mark.parametrize("change", [change_example, change_person, change_label, change_age])
def test_other_data_have_another_digest(sites: list[Site], change: Callable[[Site], Site]) -> None:
    before = digest_baselines(tiny.run_config(), 2)
    assert digest_baselines(tiny.run_config(), 2) == before
    sites[1] = change(sites[1])
    assert digest_baselines(tiny.run_config(), 2) != before


@pytest.mark.parametrize(
    "what", ["digest_code", "installed_versions", "_list_versions", "copy_weights", "describe_processor"]
)
def test_other_code_libraries_and_first_weights_have_another_digest(
    sites: list[Site], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = digest_baselines(tiny.run_config(), 2)
    monkeypatch.setattr(reuse, what, lambda *_: {"torch": "0.0"})
    assert digest_baselines(tiny.run_config(), 2) != before


def test_other_kernels_of_a_library_have_another_digest(sites: list[Site], monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_baselines(tiny.run_config(), 2)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert digest_baselines(tiny.run_config(), 2) != before


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-1] + b"\0\0", None])
def test_a_damaged_result_is_not_taken(
    sites: list[Site], trained: list[Path], tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    first, _ = run(tmp_path / "first", tmp_path / "cache")
    [path] = (tmp_path / "cache").rglob("model.pooled.safetensors")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    second, _ = run(tmp_path / "second", tmp_path / "cache")
    assert trained == [first, second]
    pooled = [load_file(folder / "model.pooled.safetensors") for folder in (first, second)]
    assert all((pooled[0][name] == pooled[1][name]).all() for name in pooled[0])
    run(tmp_path / "third", tmp_path / "cache")
    assert trained == [first, second]


def test_what_depends_on_more_is_not_kept(sites: list[Site], trained: list[Path], tmp_path: Path) -> None:
    score = {"news": {"file": "scores.csv", "column": "news"}}
    config = tiny.run_config()
    assert find_other_input(config) == ""
    for changes, why in (
        ({"baselines__today": {"scores": score}}, "a file of scores"),
        ({"baselines__anomaly": {"models": ("pca",), "inputs": ("latent",)}}, "the federation's model"),
    ):
        section = config.baselines.model_validate(
            config.baselines.model_dump() | {key.partition("__")[2]: value for key, value in changes.items()}
        )
        assert find_other_input(config.model_copy(update={"baselines": section})) == why
    run(tmp_path / "first", tmp_path / "cache", baselines__reuse=False)
    run(tmp_path / "second", tmp_path / "cache", baselines__reuse=False)
    assert len(trained) == 2
    assert not (tmp_path / "cache" / "baselines").exists()


def test_a_run_with_a_failed_baseline_is_not_kept(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: RunConfig, out: Path, *_: Any) -> dict[str, str]:
        (out / "baselines.json").write_text('{"models": []}')
        return {"pooled": "loss"}

    monkeypatch.setattr(networks, "train_baselines", fail)
    config = tiny.run_config(data__cache=str(tmp_path / "cache"))
    assert train_or_reuse_baselines(config, tmp_path, 2, lambda *_: None, lambda _: None) == {"pooled": "loss"}
    assert not (tmp_path / "cache" / "baselines").exists()


def test_the_oldest_results_are_removed(
    sites: list[Site], trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "MAX_RESULTS", 2)
    for seed in (1, 2, 3):
        run(tmp_path / str(seed), tmp_path / "cache", seed=seed)
    assert len(list((tmp_path / "cache" / "baselines").iterdir())) == 2
    run(tmp_path / "again", tmp_path / "cache", seed=3)
    assert len(trained) == 3


def test_two_sample_tests_are_taken_where_the_data_are_the_same(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def compare(config: RunConfig, count: int, on_pair: Any) -> list[dict[str, Any]]:
        computed.append(count)
        return [{"one": "north", "other": "south", "auroc": None}]

    monkeypatch.setattr(two_sample_test, "run_two_sample_tests", compare)
    config = tiny.run_config(data__cache=str(tmp_path / "cache"))
    notes: list[str] = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        if name == "third":
            sites[0] = change_example(sites[0])
        reuse.compare_or_reuse_pairs(config, tmp_path / name, 2, notes.append)
    files = [json.loads((tmp_path / name / "two-sample.json").read_text()) for name in ("first", "second", "third")]
    assert [item["pairs"] for item in files] == [files[0]["pairs"]] * 3
    assert ["reused" in item for item in files] == [False, True, False]
    assert len(computed) == 2
    assert "two-sample tests: they took 0 s; a run without them and Table 1: --set evaluation.domain_shift" in notes[0]
    assert "two-sample tests: taken from a run of" in notes[1]
