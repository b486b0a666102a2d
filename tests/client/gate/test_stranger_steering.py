"""What a second stranger read by steering training: early stopping, control variates and personal models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.admission import check_forgetting
from client.requests import handle
from client.site import load_site
from common.arrays import Weights
from common.errors import SiteError
from common.replies import TrainReply
from common.requests import Method, TrainRequest
from tests.client.gate.stranger import PLAIN, make_config, make_hospital, seed_weights

RUN = "a" * 32
CONTROL = Method(control=True)


def fill(weights: Weights, value: float) -> Weights:
    return {name: np.full_like(array, value) for name, array in weights.items()}


def test_early_stopping_is_the_hospitals_to_allow(tmp_path: Path) -> None:
    """When it stops is decided by exact losses of validation patients, and the report of the round says when."""
    config = make_config(**PLAIN, training__patience=1)
    with pytest.raises(SiteError, match=r"training\.patience is this hospital's to allow"):
        handle(make_hospital(tmp_path), TrainRequest(config, round=1, run_id=RUN))


def test_control_variates_cannot_steer_further_than_weights_may(tmp_path: Path) -> None:
    """They once moved the weights of round 1 anywhere, and lengthened the update by which later ones are judged."""
    context = make_hospital(tmp_path)
    config = make_config(**PLAIN, federation__strategy={"name": "scaffold"})
    start = seed_weights(config, load_site(context, config))
    first = TrainRequest(config, round=1, weights=start, run_id=RUN, method=CONTROL, control=fill(start, 0.0))
    with pytest.raises(SiteError, match="the control variates are larger"):
        handle(context, replace(first, control=fill(start, 0.1)))
    reply = handle(context, first)
    assert isinstance(reply, TrainReply)
    later = replace(first, round=2, weights=reply.weights, state_round=1, needed_rounds=(1,), control=reply.control)
    handle(context, later)
    with pytest.raises(SiteError, match="the control variates are larger"):
        handle(context, replace(later, control={name: 1000 * value for name, value in reply.control.items()}))


def test_a_personal_model_holds_noise(tmp_path: Path) -> None:
    """It does not leave, but its results on test patients do; it once held the exact gradients of single people."""
    config = make_config(**PLAIN, federation__strategy={"name": "ditto"})
    found: list[dict[str, Any]] = []
    for name in ("one", "other"):  # the same people and seed: all that differs is the noise
        context = make_hospital(tmp_path / name)
        if found:
            (tmp_path / "other" / "state").mkdir(exist_ok=True)
            context = replace(make_hospital(tmp_path / "one"), state=tmp_path / "other" / "state")
            copy_register(tmp_path / "one" / "state", tmp_path / "other" / "state")
        start = seed_weights(config, load_site(context, config))
        handle(context, TrainRequest(config, round=1, weights=start, run_id=RUN, method=Method(pull=0.1)))
        files = list((context.state or tmp_path).rglob("round-00001.safetensors"))
        from safetensors.numpy import load

        found.append(load(files[0].read_bytes()))
    assert all(not np.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def copy_register(source: Path, target: Path) -> None:
    """Copy a hospital's split to another state folder, so that the same people train."""
    import shutil

    from client.gate.register_file import release_register_file

    release_register_file()
    for file in source.rglob("register.sqlite*"):
        (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / file.relative_to(source))


def test_a_strong_pull_of_a_personal_model_forgets_too(tmp_path: Path) -> None:
    from client.policy import SitePolicy

    context = make_hospital(tmp_path)
    config = make_config(**PLAIN)
    request = TrainRequest(config, round=1, run_id=RUN, method=Method(pull=100.0))
    with pytest.raises(SiteError, match="forgets its first steps"):
        check_forgetting(SitePolicy(), load_site(context, config).train, request)
