"""Starting from the weights of another model, and freezing some of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from common import models
from common.errors import ConfigError
from common.task import Task
from tests.common.model_checks import NETWORKS, TASKS, build, each_pair, made


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestStart:
    def weights(self, name: str, task: Task, seed: int = 5, **options: object) -> dict[str, np.ndarray]:
        return {key: value.numpy() for key, value in build(name, task, seed, **options).state_dict().items()}

    @each_pair
    def test_all_weights_are_transferred(self, name: str, title: str) -> None:
        model, saved = build(name, TASKS[title], 1), self.weights(name, TASKS[title])
        assert models.transfer_weights(model, saved) == list(saved)
        assert all(np.array_equal(value.numpy(), saved[key]) for key, value in model.state_dict().items())
        next(iter(model.parameters())).data.add_(1)  # the arrays stay as they were
        assert np.array_equal(saved[next(iter(saved))], self.weights(name, TASKS[title])[next(iter(saved))])

    def test_excluded_layers_keep_their_values(self) -> None:
        model = build("cnn", TASKS["beats"], 1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        saved = self.weights("cnn", TASKS["beats"])
        taken = models.transfer_weights(model, saved, ("head.out.*", "*norm1.bias"))
        for key, value in model.state_dict().items():
            fresh = key.startswith("head.out.") or key.endswith("norm1.bias")
            assert (key in taken) != fresh
            assert np.array_equal(value.numpy(), before[key].numpy() if fresh else saved[key])

    def test_another_task_needs_another_output_layer(self) -> None:
        saved = self.weights("cnn", TASKS["beats"])
        fewer = made("multiclass", 2, 4, 96, 8)
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(build("cnn", fewer), saved)
        assert str(caught.value) == (
            "federation.start: the saved model does not fit in head.out.weight (saved as [4, 64], here [2, 64]); "
            "head.out.bias (saved as [4], here [2]): give the model.options that it had, or leave these layers "
            "out with federation.start_except=[head.out.*]"
        )
        assert len(models.transfer_weights(build("cnn", fewer), saved, ["head.out.*"])) == len(saved) - 2

    def test_following_the_errors_advice_is_enough(self) -> None:
        # Another count of leads, no features, other classes: what the error says to put in is what is needed.
        saved, other = self.weights("cnn", TASKS["beats"]), TASKS["beats without features"]
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(build("cnn", other), saved)
        result = re.search(r"start_except=\[(.*)\]$", str(caught.value))
        assert result is not None
        assert "head.embed.0.*" in result[1].split(", ")
        taken = models.transfer_weights(build("cnn", other), saved, result[1].split(", "))
        assert {name.partition(".")[0] for name in taken} == {"stem_norm", "stages"}

    def test_a_layer_that_only_one_model_has_is_named(self) -> None:
        saved = self.weights("tcn", TASKS["hours with features"])
        with pytest.raises(ConfigError, match=r"head\.embed\.0\.weight \(only in the saved model\)"):
            models.transfer_weights(build("tcn", TASKS["hours with features"], features=False), saved)
        saved = self.weights("gru", TASKS["hours with features"])
        with pytest.raises(ConfigError, match=r"layers\.1\.input\.weight \(not in the saved model\)"):
            models.transfer_weights(build("gru", TASKS["hours with features"], layers=2), saved)

    def test_a_failed_transfer_changes_nothing(self) -> None:
        model = build("cnn", TASKS["beats"], 1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        saved = self.weights("cnn", TASKS["beats"])
        saved["head.out.bias"] = saved["head.out.bias"][:2]
        with pytest.raises(ConfigError):
            models.transfer_weights(model, saved)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_patterns_that_match_nothing_or_everything_are_refused(self) -> None:
        model, saved = build("mlp", TASKS["table"], 1), self.weights("mlp", TASKS["table"])
        with pytest.raises(ConfigError) as caught:
            models.transfer_weights(model, saved, ["head.*"])
        assert str(caught.value) == (
            "federation.start_except: 'head.*' matches no parameter; there are body.0.*, body.1.*, body.4.*, body.5.*, "
            "out.*"
        )
        with pytest.raises(ConfigError, match="excludes every parameter of the saved model"):
            models.transfer_weights(model, saved, ["*"])


class TestFrozen:
    def test_matching_parameters_are_frozen_and_the_others_train(self) -> None:
        model = build("mlp", TASKS["table"])
        assert models.freeze_parameters(model, ["body.0.*"]) == ["body.0.weight", "body.0.bias"]
        rests = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert rests == {"body.0.weight", "body.0.bias"}
        assert models.freeze_parameters(model, ["out.bias"]) == ["out.bias"]  # the last word counts
        assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["out.bias"]
        assert models.freeze_parameters(model, []) == []
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_patterns_that_match_nothing_or_everything_are_refused(self) -> None:
        model = build("logreg", TASKS["table"])
        with pytest.raises(ConfigError, match=r"training\.freeze: 'body\.\*' matches no parameter; there are out\.\*$"):
            models.freeze_parameters(model, ["body.*"])
        with pytest.raises(ConfigError, match=r"training\.freeze: all parameters are frozen"):
            models.freeze_parameters(model, ["out.*"])
        assert all(parameter.requires_grad for parameter in model.parameters())
