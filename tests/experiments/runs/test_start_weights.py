"""A run that begins with another run's weights: checked before it starts, and its baselines begin there too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from client.training.local_update import copy_weights
from common import models
from common.errors import ConfigError
from experiments.baselines import networks
from experiments.engines import local
from experiments.runs import run
from experiments.runs.checks import resolve_paths
from tests import tiny


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "other" / "model.safetensors"
    path.parent.mkdir()
    save_file(copy_weights(models.build_model(tiny.TASK, tiny.run_config().model, 99)), path)
    return path


def test_every_baseline_begins_where_the_federation_does(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = [tiny.site("north", 1), tiny.site("south", 2)]
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[context.index])
    config = tiny.run_config(federation__start=str(saved.parent), training__freeze=["stem*", "stages*", "head.hidden*"])
    assert networks.train_baselines(config, tmp_path, 2) == {}
    before = load_file(saved)
    for name in ("pooled", "local.north", "local.south"):
        after = load_file(tmp_path / f"model.{name}.safetensors")
        moved = {key for key in before if not np.array_equal(before[key], after[key])}
        assert moved == {key for key in before if key.startswith(("head.embed.", "head.out."))}


def test_a_start_on_this_machine_is_found_from_any_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    config = tiny.run_config(federation__start="model.safetensors")
    assert resolve_paths(config).federation.start == str(saved.resolve())
    remote = tiny.run_config(
        federation__start="model.safetensors", federation__engine="federation", federation__address="server:9092"
    )
    assert resolve_paths(remote).federation.start == "model.safetensors"


def test_missing_initial_weights_are_reported_before_anything_starts(tmp_path: Path) -> None:
    class Watcher:
        def __getattr__(self, name: str) -> Any:
            return lambda *what: None

    data = {"dataset": "synthetic", "options": {"hospitals": 2, "patients": 3, "minutes": 0.2}}
    config = tiny.run_config(federation__start=str(tmp_path / "nowhere"), data=data)
    with pytest.raises(ConfigError, match=r"federation\.start: no file .*nowhere"):
        run.run_experiment(config, tmp_path / "runs", Watcher())
    assert not (tmp_path / "runs").exists()


def test_a_classifier_begins_with_an_autoencoder_s_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = tiny.run_config(model={"name": "autoencoder", "options": {"widths": [4], "kernel": 3, "latent": 2}})
    path = tmp_path / "learned.safetensors"
    save_file(copy_weights(models.build_model(tiny.TASK, learned.model, 99)), path)
    anew = ["head.*", "latent.*", "embed.*", "back.*", "unfold.*", "grow.*", "out.*"]
    sites = [tiny.site("north", 1), tiny.site("south", 2)]
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[context.index])
    config = tiny.run_config(
        federation__start=str(path), federation__start_except=anew, training__freeze=["stem*", "stages.*"]
    )
    local.run_local(config, tmp_path / "run", 2)
    before, after = load_file(path), load_file(tmp_path / "run" / "model.safetensors")
    taken = {key for key in after if key.startswith(("stem", "stages."))}
    assert taken == {key for key in before if key.startswith(("stem", "stages."))}
    assert all(np.array_equal(before[key], after[key]) for key in taken)
    first = models.build_model(tiny.TASK, config.model, config.seed).state_dict()
    assert any(not np.array_equal(first[key].numpy(), after[key]) for key in after if key.startswith("head."))
