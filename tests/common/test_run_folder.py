"""Run folders: names of their own, and what stands in them before anything runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from common import run_folder
from common.config import load_config, parse_config
from common.errors import ConfigError, DataError
from common.run_folder import RunFolder
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]


def test_every_run_has_a_new_folder(tmp_path: Path) -> None:
    made = [run_folder.create_run_folder(tiny.run_config(), tmp_path / "new" / "runs") for _ in range(5)]
    assert len(set(made)) == 5
    assert all(folder.is_dir() and folder.name.startswith("tiny-") for folder in made)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the run folder .*see --runs"):
        run_folder.create_run_folder(tiny.run_config(), tmp_path / "file")


def test_a_run_is_described_before_it_starts(tmp_path: Path) -> None:
    config = tiny.run_config(
        title="Größe & <b>",
        training__lr=1e-05,
        evaluation__without={"one": ["114"]},
        federation__expect=["a", "b"],
    )
    run_folder.write_run_description(config, tmp_path, {"title": "data"}, [{"level": "leak", "text": "x"}])
    assert load_config(tmp_path / "config.yaml") == config
    about = json.loads((tmp_path / "run.json").read_text())
    assert (about["id"], about["status"], about["seed"]) == (tmp_path.name, "running", 1)
    assert parse_config(about["config"]) == config
    assert about["versions"].keys() >= {"python", "torch", "flwr"}
    run_folder.update_run(tmp_path, status="complete", seconds=2.5)
    assert json.loads((tmp_path / "run.json").read_text()) == {**about, "status": "complete", "seconds": 2.5}
    assert not list(tmp_path.glob("*.part"))


def test_files_of_models_are_named_by_the_model(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.weights().name == "model.safetensors"
    assert folder.scaling("pooled").name == "scaling.pooled.safetensors"
    assert folder.latent("local:north").name == "latent.local.north.safetensors"
    assert folder.counts("local:St. Mary's/2").name == "counts.local.St%2e%20Mary%27s%2f2.safetensors"
    assert folder.resamples("personal") == folder.resamples()
    assert folder.site("a/../b").parent == folder.sites


def test_files_of_earlier_versions_are_found(tmp_path: Path) -> None:
    folder, earlier = RunFolder(tmp_path), tmp_path / "model.local.St. Mary's.safetensors"
    assert folder.weights("local:St. Mary's") != earlier
    earlier.write_bytes(b"")
    assert folder.weights("local:St. Mary's") == earlier


@pytest.mark.parametrize("content", [None, '{"id": "x"'])
def test_a_folder_without_a_whole_description_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        RunFolder(tmp_path).about.write_text(content)
    with pytest.raises(DataError, match=r"is no run folder: its run\.json is missing"):
        run_folder.read_run(tmp_path)


@pytest.mark.slow
def test_only_this_module_names_the_files_of_a_run() -> None:
    folder = RunFolder(Path("run"))
    paths = [getattr(folder, name) for name, item in vars(RunFolder).items() if isinstance(item, property)]
    names = {path.name for path in paths if path.suffix} | {folder.weights().name, folder.counts().name}
    assert {"config.yaml", "federated.json", "report.json", "model.safetensors"} <= names
    users = {
        f"{path.relative_to(ROOT)}: {node.value}"
        for package in ("common", "sites", "client", "server", "experiments")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert {user for user in users if not user.startswith("common/run_folder.py")} == set()
