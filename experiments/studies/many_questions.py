"""Attack a hospital by many questions: learn the outcomes of people whose inputs are known, by averaging over answers.

python -m experiments.studies.many_questions DATA --site NAME [--policy POLICY.yaml] [--questions N] [--splits N]

DATA is the folder of one hospital of UCI Heart Disease. A hostile coordinator trains one honest round and then has
crafted models validated: each calls the event for those on one side of a random cut through the inputs. Confusion
matrices and histograms of all answers give the outcomes by ridge regression, each answer weighted by its error. For
comparison, the outcomes that a logistic regression on the hospital's training patients predicts rightly.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.gate.questions import find_error_growth
from client.policy import SitePolicy, load_policy
from client.requests import handle
from client.site import Site, clear_site_cache, load_site
from client.site_context import SiteContext
from common import models
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.errors import WardroundError
from common.metrics.table_names import ALL_PATIENTS
from common.replies import ScalingReply, ValidateReply
from common.requests import ScalingRequest, TrainRequest, ValidateRequest
from common.scaling import fit_standard_scaling

SLOPE, HEIGHT, RIDGE = 3.0, 8.0, 30.0
"""Of the cut, of the logit on its two sides, and of the regression."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recovered:
    """Outcomes that the attack has right.

    Attributes:
        questions: number of models validated.
        right: people whose outcome is right.
        people: number of validation patients.
        majority: people who have the more frequent outcome.
        model: people whose outcome a model of the training patients predicts rightly.
    """

    questions: int
    right: int
    people: int
    majority: int
    model: int


def attack_by_questions(context: SiteContext, marks: Sequence[int], rng: np.random.Generator) -> Iterator[Recovered]:
    """Return what is recovered after each number of questions; ends where the hospital refuses."""
    config = _build_config()
    scaled = config.model_copy(update={"data": config.data.model_copy(update={"scaling": "standard"})})
    sums = handle(context, ScalingRequest(scaled))
    assert isinstance(sums, ScalingReply)
    scaling, site, run = fit_standard_scaling(dict(sums.sums)), load_site(context, config), secrets.token_hex(16)
    built = models.build_model(site.task, config.model, config.seed)
    first = {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}
    handle(context, TrainRequest(config, round=1, weights=first, scaling=scaling.to_bytes(), run_id=run))

    def scale(features: npt.NDArray[np.floating]) -> Floats:
        return np.asarray(np.nan_to_num((features.astype(np.float64) - scaling.centre) / scaling.spread))

    inputs, truth = scale(site.validation.features), site.validation.y
    people, majority, model = len(truth), int(np.bincount(truth).max()), count_predicted(site, scale)
    rows: list[Floats] = []
    sizes: list[float] = []
    for number in range(1, max(marks) + 1):
        direction: Floats = np.asarray(rng.normal(size=inputs.shape[1]))
        along = inputs @ direction
        cut = float(np.quantile(along, rng.uniform(0.35, 0.65)))
        weights = craft_cut(first, direction, cut)
        request = ValidateRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=run)
        try:
            reply = handle(context, request)
        except WardroundError:
            return
        assert isinstance(reply, ValidateReply)
        counts = reply.tables[ALL_PATIENTS]
        rise = np.clip(SLOPE * (along - cut) + 0.5, 0, 1)
        called = np.asarray(HEIGHT * rise - HEIGHT / 2 > 0)
        weight = 1 / find_error_growth(context.policy, number)
        middle = counts.scores.shape[-1] // 2
        by_side = np.stack([counts.scores[1, :, :middle].sum(1), counts.scores[1, :, middle:].sum(1)], 1)
        for table in (counts.confusion, by_side):
            for side, group in enumerate((~called, called)):
                rows += [np.asarray(weight * group, dtype=np.float64)] * 2
                sizes += [weight * float(table[1, side]), weight * float(group.sum() - table[0, side])]
        if number in marks:
            matrix, prior = np.asarray(rows, dtype=np.float64), np.full(people, truth.mean())
            rest = np.asarray(sizes) - matrix @ prior
            solved = prior + np.linalg.solve(matrix.T @ matrix + RIDGE * np.eye(people), matrix.T @ rest)
            yield Recovered(number, int(((solved > 0.5) == (truth == 1)).sum()), people, majority, model)


def craft_cut(like: Weights, direction: Floats, cut: float) -> Weights:
    """Return weights whose event logit rises from -HEIGHT / 2 to HEIGHT / 2 where `inputs @ direction` passes `cut`."""
    weights = {name: np.zeros_like(value) for name, value in like.items()}
    unit, unit_bias, out, out_bias = weights
    for row, offset in enumerate((0.5, -0.5)):
        weights[unit][row] = direction * SLOPE
        weights[unit_bias][row] = -cut * SLOPE + offset
    weights[out][1, :2] = [HEIGHT, -HEIGHT]
    weights[out_bias][1] = -HEIGHT / 2
    return weights


def count_predicted(site: Site, scale: Callable[[npt.NDArray[np.floating]], Floats]) -> int:
    """Return the number of validation patients whose outcome a model of the training patients predicts rightly."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(scale(site.train.features), site.train.y)
    return int((model.predict(scale(site.validation.features)) == site.validation.y).sum())


def _build_config() -> RunConfig:
    training = {
        "optimizer": "sgd", "lr": 10.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant",
        "clip_norm": 1e9, "batch_size": 4096, "epochs": 8,
    }  # fmt: skip
    model = {"name": "mlp", "options": {"widths": [8], "norm": False, "dropout": 0.0}}
    data = {"dataset": "heart_disease", "scaling": "standard"}
    evaluation = {"bins": 62, "bootstrap": 0, "recalibrate": []}
    raw = {"name": "questions", "data": data, "model": model, "training": training, "evaluation": evaluation}
    return parse_config(raw)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is recovered, over splits of the hospital's patients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--site", required=True)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--splits", type=int, default=5, help="number of splits that the hospital draws")
    options = parser.parse_args(arguments)
    marks = [*(mark for mark in (30, 100, 300, 1000) if mark < options.questions), options.questions]
    policy: SitePolicy = load_policy(options.policy)
    results: dict[int, list[Recovered]] = {}
    for number in range(options.splits):
        with tempfile.TemporaryDirectory() as state:
            clear_site_cache()  # the split before was of another state folder, which contexts do not compare
            context = SiteContext(policy, site=options.site, data=options.data, state=Path(state))
            for item in attack_by_questions(context, marks, np.random.default_rng(number)):
                results.setdefault(item.questions, []).append(item)
    for questions, items in results.items():
        people = sum(item.people for item in items)
        shares = {what: sum(getattr(item, what) for item in items) / people for what in ("right", "majority", "model")}
        print(
            f"{questions} questions: outcomes right {shares['right']:.3f}, by a model {shares['model']:.3f}, "
            f"by the more frequent {shares['majority']:.3f} ({people} people in {len(items)} splits)"
        )


if __name__ == "__main__":
    main()
