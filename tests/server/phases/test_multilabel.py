"""A federation whose examples may have several labels at once, end to end, against scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn import metrics as theirs

from client.site import Site
from common import models
from common.task import Task
from server import app
from sites.cohort import Cohort
from tests import tiny
from tests.wire import FakeGrid, change_report, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

LABELS = Task("labels", "multilabel", ("A", "B", "C"), ("a", "b", "c"), 0, 0, 0.0, ("u", "v"), ())


def labelled(name: str, seed: int) -> Site:
    rng = np.random.default_rng(seed)
    parts = np.repeat([0, 0, 0, 0, 1, 2, 2, 2], 10).astype(np.int8)
    n = len(parts)
    y = (rng.random((n, 3)) < (0.5, 0.3, 0.2)).astype(np.int64)
    features = (rng.normal(size=(n, 2)) + y[:, :2] * 2).astype(np.float32)
    people = tuple(f"{seed}-{i}" for i in range(8))
    owner = np.repeat(np.arange(8), 10)
    return Site.from_cohort(
        name, Cohort(LABELS, np.zeros((n, 0, 0), np.float32), features, y, owner, people, people, parts), True
    )


@pytest.fixture(name="sites")
def _sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    result = {"north": labelled("north", 1), "south": labelled("south", 2)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result


def test_labels_are_learned_and_counted_each_on_its_own(sites: dict[str, Site], tmp_path: Path) -> None:
    wanted = tiny.run_config(model={"name": "logreg"}, training__lr=0.1, federation__rounds=4)
    app.run_federation(FakeGrid([site_script(site) for site in sites.values()]), wanted, tmp_path)
    done = json.loads((tmp_path / "federated.json").read_text())
    assert done["sites"]["north"]["counts"]["test"]["classes"] == sites["north"].test.y.sum(0).tolist()
    model = models.build_model(LABELS, wanted.model, 0)
    remaining = load_file(tmp_path / "model.safetensors")
    model.load_state_dict({key: torch.tensor(value) for key, value in remaining.items()})
    tests = [site.test for site in sites.values()]
    truth = np.concatenate([part.y for part in tests])
    with torch.inference_mode():
        logits = torch.cat([model(torch.from_numpy(p.x), torch.from_numpy(p.features)) for p in tests]).numpy()
    pooled = done["pooled"]["all"]
    assert pooled["examples"] == len(truth)
    assert pooled["macro_f1"]["value"] == pytest.approx(theirs.f1_score(truth, logits > 0, average="macro"))
    assert pooled["macro_auroc"]["value"] == pytest.approx(theirs.roc_auc_score(truth, logits), abs=0.02)
    assert pooled["macro_auroc"]["value"] > 0.65
    tables = theirs.multilabel_confusion_matrix(truth, logits > 0).reshape(3, 4)
    assert pooled["confusion"] == tables.tolist()


def test_more_of_a_label_than_examples_is_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    from common.errors import EngineError

    honest = site_script(sites["north"])

    def lying(request):  # type: ignore[no-untyped-def]
        reply = honest(request)
        if request.kind != "handshake":
            return reply
        held = reply.report.counts.train
        train = held.model_copy(update={"classes": (10_000, *held.classes[1:])})
        return change_report(reply, counts=reply.report.counts.model_copy(update={"train": train}))

    with pytest.raises(EngineError, match="its train counts do not fit its classes"):
        app.run_federation(FakeGrid([lying]), tiny.run_config(model={"name": "logreg"}), tmp_path)
