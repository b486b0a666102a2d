"""The task of telling the abnormal, and what the configuration of a model that reconstructs implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common import config, detection, plugins
from common.errors import ConfigError
from common.metrics.counts import Counts, bin_edges, choose_threshold, count_predictions
from common.models import _reconstruct
from common.models._reconstruct import Reconstruction
from common.sections.detection import DetectionConfig
from common.task import Task

TASK = Task("t", "multiclass", ("N", "S", "V"), ("n", "s", "v"), 1, 4, 125.0, ("rr", "sex"), ("lead",))
MANY = Task("t", "multilabel", ("NORM", "MI", "CD"), ("n", "m", "c"), 1, 4, 125.0, (), ("lead",))


@pytest.mark.parametrize(
    ("task", "normal", "against"),
    [(TASK, (), ("S", "V")), (TASK, ("V",), ("N", "S")), (TASK, ("S", "N"), ("V",)), (MANY, (), ("MI", "CD"))],
)
def test_all_other_classes_are_abnormal(task: Task, normal: tuple[str, ...], against: tuple[str, ...]) -> None:
    result = detection.to_detection_task(task, DetectionConfig(normal=normal))
    assert (result.classes, result.against, result.anomaly, result.binary) == (
        ("normal", "abnormal"),
        against,
        True,
        True,
    )
    assert (result.channels, result.samples, result.features) == (task.channels, task.samples, task.features)
    assert result.fingerprint() != task.fingerprint()
    assert Task.from_dict(result.to_dict()) == result


@pytest.mark.parametrize(
    ("normal", "said"), [(("Q",), r"no class 'Q'; there are N, S, V"), (("N", "S", "V"), "names every class")]
)
def test_invalid_normal_classes_are_refused(normal: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^detection\.normal: {said}"):
        detection.to_detection_task(TASK, DetectionConfig(normal=normal))


def test_autoencoders_are_marked_in_their_files() -> None:
    every = plugins.list_plugins("common.models", "build")
    assert [name for name in every if detection.is_reconstruction_model(name)] == ["autoencoder", "tabular_autoencoder"]


def run(**sections: Any) -> config.RunConfig:
    return config.parse_config({"model": {"name": "autoencoder"}} | sections)


def test_autoencoders_have_a_default_metric_and_threshold_of_their_own() -> None:
    result = run()
    assert (result.detecting, result.evaluation.metric, result.evaluation.threshold) == (True, "auroc", "false_alarms")
    assert result.selection_metric == "loss"
    requested = run(evaluation={"metric": "auprc", "threshold": "youden"})
    assert (requested.evaluation.metric, requested.evaluation.threshold) == ("auprc", "youden")
    plain = config.parse_config({})
    assert (plain.detecting, plain.evaluation.threshold, plain.selection_metric) == (False, "auto", "macro_f1")
    assert config.config_from_json(config.config_to_json(result)) == result


def test_private_training_chooses_no_threshold_and_sends_no_sums() -> None:
    private = {"privacy": {"sigma": 1.0}, "federation": {"choose": "last"}}
    assert run(**private).evaluation.threshold == "likelier"
    with pytest.raises(ConfigError, match=r"privacy needs detection\.score=reconstruction"):
        run(**private, detection={"score": "both"})


def test_detection_settings_are_refused_with_a_classifier() -> None:
    with pytest.raises(ConfigError, match=r"detection needs an autoencoder, such as model\.name=autoencoder, not cnn"):
        config.parse_config({"detection": {"relative": True}})


def slow_error(task: Task, outputs: Reconstruction) -> list[float]:
    """One value after the other."""
    result = []
    for i in range(len(outputs.latent)):
        parts = []
        if outputs.signal is not None and outputs.wanted is not None:
            pairs = zip(outputs.signal[i].flatten().tolist(), outputs.wanted[i].flatten().tolist(), strict=True)
            parts.append([(made - wanted) ** 2 for made, wanted in pairs if wanted == wanted])
        if outputs.columns is not None and outputs.wanted_columns is not None:
            each = []
            for name, made, wanted in zip(
                task.features, outputs.columns[i].tolist(), outputs.wanted_columns[i].tolist(), strict=True
            ):
                if wanted != wanted:
                    continue
                p = 1 / (1 + np.exp(-made))
                deviance = -2 * np.log(p if wanted > 0 else 1 - p)
                each.append(deviance if name in task.binary_features else (made - wanted) ** 2)
            parts.append(each)
        means = [sum(part) / len(part) if part else 0.0 for part in parts]
        result.append(means[0] if len(means) == 1 else (1 - outputs.share) * means[0] + outputs.share * means[1])
    return result


@pytest.mark.parametrize("which", ["both", "signal", "columns"])
@pytest.mark.parametrize("binary", [(), ("sex",)])
def test_the_reconstruction_error_is_over_measured_values(which: str, binary: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    task = Task("t", "multiclass", ("N", "V"), ("n", "v"), 1, 4, 1.0, ("rr", "sex"), ("l",), binary_features=binary)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    signal, wanted, columns, like = drawn(5, 1, 4), drawn(5, 1, 4), drawn(5, 2), drawn(5, 2)
    wanted[0, 0, 2] = like[1, 1] = like[2, 0] = torch.nan
    wanted[3], like[3] = torch.nan, torch.nan
    made = Reconstruction(drawn(5, 3), torch.zeros(5), signal, wanted, columns, like, 0.3)
    if which != "both":
        lost = ("columns", "wanted_columns") if which == "signal" else ("signal", "wanted")
        made = made._replace(**dict.fromkeys(lost))
    signal.requires_grad_()
    columns.requires_grad_()
    result = _reconstruct.build_reconstruction_error(task)(made)
    np.testing.assert_allclose(result.detach(), slow_error(task, made), rtol=1e-5)
    assert float(result[3].detach()) == 0
    result.sum().backward()
    assert all(part.grad is None or bool(part.grad.isfinite().all()) for part in (signal, columns))


def counts(negative: list[int], positive: list[int]) -> Counts:
    scores = np.zeros((2, 2, 16), np.int64)
    scores[1, 0, : len(negative)], scores[1, 1, : len(positive)] = negative, positive
    return Counts(np.zeros((2, 2), np.int64), scores, np.zeros(()))


@pytest.mark.parametrize(("rate", "edge"), [(0.5, 2), (0.2, 3), (0.19, 4), (0.05, 5), (0.04, 16)])
def test_a_threshold_keeps_to_its_false_alarms(rate: float, edge: int) -> None:
    negative = [10, 40, 30, 10, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]
    result = choose_threshold(counts(negative, []), "false_alarms", rate)
    called = [sum(negative[i:]) / 100 for i in range(17)]
    first = next(i for i, share in enumerate(called) if share <= rate)
    assert first == edge
    assert result == np.append(bin_edges(16), 16.0)[first]
    assert choose_threshold(counts([], [3]), "false_alarms", rate) is None


def test_given_losses_replace_the_log_likelihood() -> None:
    logits = np.asarray([[0.0, 1.0], [0.0, -2.0], [0.0, 3.0]])
    result = count_predictions(logits, [0, 1, 1], [0, 0, 1], 2, 16, losses=[0.5, 0.25, 2.0])
    assert result.loss.tolist() == [0.75, 2.0]
