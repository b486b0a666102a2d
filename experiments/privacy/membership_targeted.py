"""Membership of one person by crafted models: each calls the event for those whose inputs are near the target's.

In each game a person of the pool is the target, and is a patient with probability one half; everyone else is one with
the pool's share. The coordinator trains a first round honestly and then has crafted networks tested, as many in a run
as the policy allows, or validated, one each round. The score adds up the log likelihood ratios of the answered counts,
taken as Poisson counts of the people near the target, whose expected number the attacker knows from the pool.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from client import input_scaling
from client.policy import SitePolicy
from client.requests import handle
from client.site import clear_site_cache, load_site
from client.site_context import SiteContext
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.errors import SiteError
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, ValidateReply
from common.requests import FinalTestRequest, TrainRequest, ValidateRequest
from experiments.privacy.membership_pool import Pool, build_first_weights
from experiments.privacy.membership_scores import Floats, MembershipResult, measure_auroc
from sites.cohort import SPLITS

NEAR = 7.0
"""Expected number of people near the target: few, but more than are suppressed."""
MAX_COLUMNS = 12
"""Most inputs that a crafted model looks at."""
UNITS = 2 * MAX_COLUMNS
SCALE = 0.2
"""Steepness of a crafted model: small weights lie near those that were trained."""
TRIES = 50
Kind = Literal["test", "validation"]


@dataclass(frozen=True)
class PoolRows:
    """Everyone's inputs as the model takes them.

    Attributes:
        features: `(people, inputs)`.
        truth: `(people,)`, classes.
        side: `(people,)`, index into SPLITS of the pool's own split.
        published: whether a published split says who is tested.
    """

    features: Floats
    truth: npt.NDArray[np.int64]
    side: npt.NDArray[np.int64]
    published: bool


@dataclass(frozen=True)
class CraftedModel:
    """A model that calls the event near the target, and how many others are expected there.

    Attributes:
        weights: the model's.
        expected: number of people of the target's class near it, without the target.
    """

    weights: Weights
    expected: float


def attack_target(
    pool: Pool,
    policy: SitePolicy,
    kind: Kind,
    models: int,
    games: int,
    share: float,
    folder: Path,
    seed: int = 0,
    on_game: Callable[[int, int], None] = lambda done, total: None,
) -> MembershipResult:
    """Play the game for one target each and return the result.

    Args:
        pool: everyone; each person must have one example, with two classes and a table of inputs.
        policy: what the hospital allows.
        kind: whose counts are asked for.
        models: how many crafted models.
        games: how often.
        share: probability that another person is a patient.
        folder: for the hospitals' state.
        seed: draws targets, hospitals and models.
        on_game: called after each game with the number done and the number in all.
    """
    rng = np.random.default_rng(seed)
    config = crafted_config(pool.config)
    rows = read_rows(pool)
    first = build_first_weights(pool.site.task, config)
    side = SPLITS.index(kind)
    targets = np.flatnonzero(rows.side == side) if rows.published and kind == "test" else np.arange(len(pool.people))
    scores, members, evaluated = [], [], []
    refused, answered = "", 0
    for game in range(games):
        target = int(rng.choice(targets))
        member = bool(rng.random() < 0.5)
        inside = set(np.asarray(pool.people)[rng.random(len(pool.people)) < share].tolist()) - {pool.people[target]}
        if member:
            inside.add(pool.people[target])
        context = SiteContext(
            policy, site="hospital", data=pool.data, people=frozenset(inside), state=folder / f"{kind}-{game}"
        )
        score, run = 0.0, ""
        for number in range(models):
            crafted = craft_model(rows, target, kind, share, first, rng)
            try:
                if not run or (kind == "test" and number % (policy.max_tested_models_per_run or models) == 0):
                    run = secrets.token_hex(16)
                    given: dict[str, Any] = {"scaling": pool.scaling, "run_id": run}
                    handle(context, TrainRequest(config, round=1, weights=first, **given))
                wanted = FinalTestRequest if kind == "test" else ValidateRequest
                reply = handle(context, wanted(config, round=number + 1, weights=crafted.weights, **given))
                assert isinstance(reply, ValidateReply | FinalTestReply)
                counted = int(reply.tables[ALL_PATIENTS].confusion[rows.truth[target], 1])
                answered += 1
                score += compare_counts(counted, crafted.expected, policy.min_cell_patients)
            except SiteError as error:
                refused = refused or str(error)
        scores.append(score)
        members.append(member)
        evaluated.append(member and pool.people[target] in getattr(load_site(context, config), kind).people_names)
        clear_site_cache()
        on_game(game + 1, games)
    by_game, is_member, there = np.asarray([scores]), np.asarray([members]), np.asarray([evaluated])
    known = measure_auroc(by_game, there, ~is_member) if there.any() else None
    return MembershipResult(
        f"{models} crafted models, {kind}",
        measure_auroc(by_game, is_member, ~is_member),
        known,
        None,
        len(pool.people),
        0.0,
        games,
        "" if answered else refused,
    )


def crafted_config(config: RunConfig) -> RunConfig:
    """Return the configuration with a network that can be crafted, and steps so long that it lies near the update."""
    raw = config.model_dump(mode="json", exclude_defaults=True)
    raw["model"] = {"name": "mlp", "options": {"widths": [UNITS], "norm": False, "dropout": 0.0}}
    raw["training"] = {**raw.get("training", {}), "lr": 1.0, "weight_decay": 0.0, "optimizer": "sgd", "epochs": 1}
    raw["evaluation"] = {**raw.get("evaluation", {}), "recalibrate": [], "subgroups": {}}
    raw["federation"] = {**raw.get("federation", {}), "rounds": 1000, "choose": "last"}
    return parse_config(raw)


def read_rows(pool: Pool) -> PoolRows:
    """Return everyone's scaled inputs in the order of the pool's people."""
    from common.scaling import Scaling

    scaling = Scaling.from_bytes(pool.scaling) if pool.scaling else None
    row_by_name = {name: index for index, name in enumerate(pool.people)}
    width = len(pool.site.task.features)
    features, truth = np.zeros((len(row_by_name), width)), np.zeros(len(row_by_name), np.int64)
    side = np.zeros(len(row_by_name), np.int64)
    for index, split in enumerate(SPLITS):
        part = input_scaling.apply_scaling(getattr(pool.site, split), scaling)
        mine = [row_by_name[part.persons[owner]] for owner in part.patient]
        features[mine], truth[mine], side[mine] = part.features, part.y, index
    return PoolRows(np.nan_to_num(features), truth, side, pool.published)


def craft_model(
    rows: PoolRows, target: int, kind: Kind, share: float, first: Weights, rng: np.random.Generator
) -> CraftedModel:
    """Return a network that calls the event within a distance of the target, over some of the inputs.

    Its hidden units are the positive and negative parts of each input's difference from the target's.
    """
    others = rows.truth == rows.truth[target]
    others[target] = False
    often = share
    if rows.published:
        others &= (rows.side == SPLITS.index("test")) == (kind == "test")
        often *= 1.0 if kind == "test" else 0.2
    else:
        often *= {"test": 0.25, "validation": 0.15}[kind]
    wanted = round(NEAR / often)
    for _ in range(TRIES):
        count = int(rng.integers(2, min(rows.features.shape[1], MAX_COLUMNS) + 1))
        columns = rng.choice(rows.features.shape[1], count, replace=False)
        slopes = rng.exponential(size=count)
        distance = np.abs(rows.features[:, columns] - rows.features[target, columns]) @ slopes
        order = np.sort(distance[others])
        reach = float(order[min(wanted, len(order)) - 1])
        near = int((distance[others] <= reach).sum())
        if near * often < 2 * NEAR:  # many have the same inputs: look at others
            break
    weights = {name: np.zeros_like(value) for name, value in first.items()}
    for pair, (column, slope) in enumerate(zip(columns, slopes, strict=True)):
        for unit, sign in ((2 * pair, 1.0), (2 * pair + 1, -1.0)):
            weights["body.0.weight"][unit, column] = sign
            weights["body.0.bias"][unit] = -sign * rows.features[target, column]
            weights["out.weight"][1, unit] = -SCALE * slope
    weights["out.bias"][1] = SCALE * (reach + 1e-4)
    return CraftedModel(weights, near * often)


def compare_counts(answered: int, expected: float, floor: int) -> float:
    """Return the log likelihood ratio that one of the counted is the target: of Poisson counts with and without.

    Args:
        answered: the count that was answered; below `floor` it says no more than that.
        expected: number of others.
        floor: smallest count that is stated.

    >>> round(compare_counts(10, 5.0, 5), 3)
    0.693
    """
    from scipy.stats import poisson

    if answered < floor:
        return float(poisson.logcdf(floor - 2, expected) - poisson.logcdf(floor - 1, expected))
    return float(np.log(answered / expected))
