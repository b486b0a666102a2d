from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from common import config
from common.errors import DataError
from common.latent import LatentStatistics
from common.scaling import Scaling
from experiments import restore
from experiments.cli import run_progress
from experiments.runs.run import run_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = {
        "name": "restored",
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
        "model": {"name": "lstm", "options": {"width": 8}},
        "federation": {"rounds": 1},
        "evaluation": {"bootstrap": 20},
        "baselines": {"local": False},
    }
    return run_experiment(config.parse_config(raw), tmp_path_factory.mktemp("runs"), run_progress.QuietPrinter())


@pytest.mark.parametrize(("name", "file"), [("federated", "model"), ("pooled", "model.pooled")])
def test_a_model_comes_back_with_its_weights(run: Path, name: str, file: str) -> None:
    result, task = restore.model(run, name)
    for key, value in load_file(run / f"{file}.safetensors").items():
        assert torch.equal(result.state_dict()[key], value)
    assert not result.training
    with torch.inference_mode():
        logits = result(torch.zeros(3, task.channels, task.samples), torch.zeros(3, len(task.features)))
    assert logits.shape == (3, 4)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_program_in_the_model_card_runs_and_asks_the_model(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scaled: bool
) -> None:
    shutil.copytree(run, tmp_path / "runs" / run.name)
    there = tmp_path / "runs" / run.name
    _, task = restore.model(run)
    if scaled:
        width = len(task.features) + task.channels
        scaling = Scaling(np.full(width, 1.0), np.full(width, 2.0))
        (there / "scaling.safetensors").write_bytes(scaling.to_bytes())
    [program] = re.findall(r"```python\n(.*?)```", (there / "model_card.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    result: dict[str, Any] = {}
    exec(program, result)
    value = -0.5 if scaled else 0.0  # (0 - 1) / 2
    x = torch.full((1, task.channels, task.samples), value)
    with torch.no_grad():
        logits = restore.model(run)[0](x, torch.full((1, len(task.features)), value))
    assert torch.equal(result["logits"], logits)
    assert torch.allclose(result["probabilities"], logits.softmax(-1))


def test_the_program_in_the_model_card_of_a_table_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {
        "name": "table",
        "data": {
            "dataset": "heart_disease",
            "options": {"simulated": True, "protocol": "explicit", "hospitals": 2, "patients": 40},
            "scaling": "standard",
        },
        "sites": {"scheme": "natural"},
        "model": {"name": "logreg"},
        "federation": {"rounds": 1},
        "evaluation": {"bootstrap": 0},
        "baselines": {"local": False, "pooled": False},
    }
    there = run_experiment(config.parse_config(raw), tmp_path / "runs", run_progress.QuietPrinter())
    [program] = re.findall(r"```python\n(.*?)```", (there / "model_card.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    result: dict[str, Any] = {}
    exec(program, result)
    scaling = restore.load_scaling(there)
    assert scaling is not None
    features = torch.from_numpy(((0 - scaling.centre) / scaling.spread).astype(np.float32))[None]
    with torch.no_grad():
        logits = restore.model(there)[0](torch.zeros(1, 0, 0), features)
    assert torch.allclose(result["probabilities"], logits.softmax(-1))


def test_the_program_of_a_model_that_reconstructs_gives_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {
        "name": "learned",
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 0.5}},
        "model": {"name": "autoencoder", "options": {"widths": [4], "latent": 2}},
        "federation": {"rounds": 1},
        "detection": {"score": "both"},
        "evaluation": {"bootstrap": 0},
        "baselines": {"local": False},
    }
    there = run_experiment(config.parse_config(raw), tmp_path / "runs", run_progress.QuietPrinter())
    [program] = re.findall(r"```python\n(.*?)```", (there / "model_card.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    result: dict[str, Any] = {}
    exec(program, result)
    made = result["logits"]
    expected = 0.5 * (made.signal**2).mean() + 0.5 * (made.columns**2).mean()  # all inputs are 0
    assert torch.allclose(result["errors"], expected)
    for name in ("federated", "pooled"):
        assert len(LatentStatistics.from_bytes(restore.load_latent(there, name)).mean) == 2
    (there / "latent.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        restore.load_latent(there)
    assert restore.load_latent(there, "local:x") == b""


def test_what_is_missing_or_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no complete model 'local:north': it needs model\.local\.north\.safetensors"):
        restore.model(run, "local:north")
    for name in ("config.yaml", "federated.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors does not fit the model of .*config\.yaml"):
        restore.model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="no complete model 'federated'"):
        restore.model(tmp_path)


@pytest.fixture(scope="module")
def personalised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FedPer run: the output layer is trained at each hospital and never sent."""
    raw = {
        "name": "fedper",
        "data": {"options": {"hospitals": 2, "patients": 4, "minutes": 1.0}},
        "model": {"name": "lstm", "options": {"width": 8}},
        "federation": {"rounds": 2, "strategy": {"name": "fedper"}},
        "evaluation": {"bootstrap": 0},
        "baselines": {"local": False, "pooled": False},
    }
    root = tmp_path_factory.mktemp("runs")
    return run_experiment(config.parse_config(raw), root, run_progress.QuietPrinter())


def test_a_model_without_its_local_layers_is_refused(personalised: Path) -> None:
    with pytest.raises(
        DataError, match=r"fedper keeps head\.out\.bias, head\.out\.weight at each hospital.*one of north, south"
    ):
        restore.model(personalised)
    with pytest.raises(DataError, match=r"holds no layers of \.\./x; it has those of: north, south"):
        restore.model(personalised, site="../x")
    assert restore.list_local_layers(personalised) == {"head.out.bias", "head.out.weight"}


def test_a_model_gets_the_local_layers_of_a_site(personalised: Path) -> None:
    shared = load_file(personalised / "model.safetensors")
    for site in ("north", "south"):
        [path] = (personalised / "sites" / site).glob(f"*/round-{restore.load_outcome(personalised)['chosen']:05d}.*")
        own = load_file(path)
        built, _ = restore.model(personalised, site=site)
        for name, value in built.state_dict().items():
            assert torch.equal(value, own[name] if name in own else shared[name])
    [program] = re.findall(
        r"```python\n(.*?)```", (personalised / "model_card.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert "# if fedper keeps layers at each hospital: restore.model(folder, site=NAME)" in program


def test_the_model_cards_of_earlier_runs_find_their_functions() -> None:
    assert restore.scaling is restore.load_scaling
