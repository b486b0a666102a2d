"""What a hospital reads about a run before it decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.gate.run_words import describe_privacy, describe_run
from client.policy import SitePolicy
from client.privacy.accounting import compute_epsilon
from client.privacy.budget import get_planned_steps
from client.site_context import SiteContext
from common import models
from common.config import RunConfig, load_config
from sites.datasets.heart_disease import CARD, Options, task

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
PRIVATE = ["privacy.delta=1e-5", "training.loss=cross_entropy", "federation.choose=last", "training.patience=0",
           "evaluation.threshold=likelier", "data.scaling=standard"]  # fmt: skip


def words(config: RunConfig, tmp_path: Path, **policy: object) -> dict[str, str]:
    lines = describe_run(SiteContext(SitePolicy(**policy), site="north", data=tmp_path), config)
    return {name: rest for name, _, rest in (line.partition(": ") for line in lines)}


def test_task_model_and_size_are_named(tmp_path: Path) -> None:
    config = load_config(EXPERIMENTS / "heart_disease.yaml")
    found = words(config, tmp_path)
    title = task(Options())
    assert found["Task"].startswith(f"{CARD.name}, {title.name}")
    count = sum(value.numel() for value in models.build_model(title, config.model, 1).state_dict().values())
    assert found["Model"].startswith(config.model.name)
    assert f"{count:,} weights ({4 * count:,} bytes in each update)" in found["Model"]
    assert found["Strategy"].startswith(config.federation.strategy.name)
    assert found["Rounds"].startswith(f"{config.federation.rounds}, each with {config.training.epochs} epochs")
    assert found["Differential privacy"] == "none."
    assert "sums over the inputs of training patients; after each round the model's update;" in found["Sends"]
    assert all(len(line) < 600 for line in found.values())
    early = words(
        config.model_copy(update={"federation": config.federation.model_copy(update={"patience": 7})}), tmp_path
    )
    assert early["Rounds"].startswith("at most 200, until 7 in a row have improved no validation, each with 1 epochs")


def test_what_is_sent_follows_the_configuration(tmp_path: Path) -> None:
    more = ["evaluation.domain_shift=true", "evaluation.explain=occlusion", "evaluation.subgroups.sex=true",
            "federation.choose=best", "sites.limit=30"]  # fmt: skip
    found = words(load_config(EXPERIMENTS / "heart_disease.yaml", more), tmp_path)
    for part in (
        "counts of predictions on validation patients",
        "to compare hospitals",
        "(occlusion)",
        "for groups of them",
    ):
        assert part in found["Sends"]
    assert found["Uses settings that can select people"] == "sites.limit, evaluation.explain."
    latent = words(load_config(EXPERIMENTS / "heart_disease_autoencoder.yaml"), tmp_path)
    assert "latent space" in latent["Sends"]


def test_what_a_private_run_spends_is_stated(tmp_path: Path) -> None:
    config = load_config(EXPERIMENTS / "heart_disease.yaml", [*PRIVATE, "privacy.epsilon=2"])
    found = words(config, tmp_path)["Differential privacy"]
    assert found.startswith(
        "per patient, at most epsilon 2 at delta 1e-05 over all rounds, and once for all runs epsilon 0.2"
    )
    assert "once" not in describe_privacy(SitePolicy(counts="public"), config)
    assert "update, with noise" in words(config, tmp_path)["Sends"]
    assert "noisy sums over" in words(config, tmp_path)["Sends"]


def test_of_a_run_that_names_its_noise_the_epsilon_is_computed(tmp_path: Path) -> None:
    config = load_config(EXPERIMENTS / "heart_disease.yaml", [*PRIVATE, "privacy.sigma=2.0"])
    steps = get_planned_steps(config)
    assert steps is not None
    epsilon = compute_epsilon([steps], 1e-5, "rdp")
    assert f"at most epsilon {epsilon:.4g} at" in describe_privacy(SitePolicy(), config)
    little = load_config(EXPERIMENTS / "heart_disease.yaml", [*PRIVATE, "privacy.sigma=0.01"])
    assert "an unbounded epsilon" in describe_privacy(SitePolicy(), little)


@pytest.mark.parametrize("change", ["data.options={protocol: none}", "model.options={hidden: -1}", "data.dataset=none"])
def test_a_configuration_that_does_not_fit_is_described_all_the_same(tmp_path: Path, change: str) -> None:
    found = words(
        load_config(EXPERIMENTS / "heart_disease.yaml", ["data.options={}", "model.options={}", change]), tmp_path
    )
    assert "of unknown size" in found["Model"] or "does not fit the task" in found["Model"]


def test_no_text_of_a_configuration_changes_the_terminal(tmp_path: Path) -> None:
    config = load_config(EXPERIMENTS / "heart_disease.yaml")
    model = config.model.model_copy(update={"options": {"a": "\x1b[2J\nyes" + "x" * 1000}})
    found = words(config.model_copy(update={"model": model}), tmp_path)
    assert "\x1b" not in found["Model"]
    assert len(found["Model"]) < 600
