"""Membership: whether a hospital's answers show that a known person is among its patients.

The game. The pool is everyone in a data folder. In each game the hospital's patients are a random part of the pool,
each person with the same probability. The hospital answers an honest run under its policy: the handshake, the scaling,
a round of training, the validation and the test of a model that is the same in every game. The attacker knows
everyone's inputs and class, the model and the settings, but not who is a patient.

The attack. For each person the attacker computes a log likelihood ratio: answers are taken as normal, with mean and
covariance from other games (shadow hospitals; Carlini et al. 2022, arXiv:2112.03570), and a person moves the mean by
what their row adds, which the attacker knows (for sums: Homer et al. 2008, doi:10.1371/journal.pgen.1000167). Where a
person may train, validate or be tested, the ratios are mixed over these sides.

A second game is played for single people, with models that are crafted for one of them (membership_targeted.py).

The result is the AUROC of the score, members against others, over all games and people; its interval is a bootstrap
over people. 0.5 is chance. Part of it comes from the number of a hospital's patients, which differs from game to game
and is stated: where it is larger, everybody is more probably a patient. The AUROC within one hospital is without that.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.policy import SitePolicy
from client.requests import handle
from client.site import clear_site_cache, load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import AuditError, ConfigError, SiteError
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, HandshakeReply, ScalingReply, TrainReply, ValidateReply
from common.requests import FinalTestRequest, HandshakeRequest, ScalingRequest, TrainRequest, ValidateRequest
from experiments.markdown_table import render_markdown_table
from experiments.privacy.membership_pool import (
    HISTOGRAM,
    SUMS,
    TEST,
    UPDATE,
    VALIDATION,
    Pool,
    build_first_weights,
    build_pool,
    read_counts,
)
from experiments.privacy.membership_scores import (
    FOLDS,
    Floats,
    MembershipResult,
    compute_ratios,
    measure_auroc,
    measure_auroc_within,
    mix_sides,
    select_cuts,
)
from experiments.privacy.membership_targeted import attack_target
from sites.cohort import SPLITS

MAX_AUROC = 0.55
"""The audit fails where the whole interval of test or validation figures lies above this."""
SIDES = {SUMS: 1, UPDATE: 1, VALIDATION: 2, TEST: 3, VALIDATION + HISTOGRAM: 2, TEST + HISTOGRAM: 3}
"""On which side of `Games.side` are the people of each kind of answer."""
FIGURES, TOGETHER = "validation and test figures together", "all together"
LIMITED = (TEST, VALIDATION, TEST + HISTOGRAM, VALIDATION + HISTOGRAM, FIGURES)
OnGame = Callable[[int, int], None]


@dataclass(frozen=True)
class Games:
    """What happened in all games.

    Attributes:
        side: 0 where a person is no patient, else 1 and the index of the person's split, `(games, people)`.
        answers: the numbers of each kind of answer, `(games, numbers)`; NaN where there was none.
    """

    side: npt.NDArray[np.int64]
    answers: Mapping[str, Floats]


def attack_membership(
    config: RunConfig,
    data: Path,
    policy: SitePolicy,
    games: int,
    share: float = 0.5,
    seed: int = 0,
    crafted: int = 0,
    on_game: OnGame = lambda done, total: None,
) -> list[MembershipResult]:
    """Play the games and return the results by kind of answer, of all answers together, and of crafted models.

    Args:
        config: the run.
        data: the folder that holds the pool.
        policy: what the hospital allows.
        games: how often each game is played; at least 8.
        share: probability that a person is a patient.
        seed: draws the hospitals.
        crafted: how many crafted models are asked about one person in each game of their own; 0: no such games.
        on_game: called after each game with the number done and the number in all.

    Raises:
        ConfigError: fewer than 8 games, or privacy is on.
    """
    if games < 2 * FOLDS:
        raise ConfigError(f"membership needs at least {2 * FOLDS} games, not {games}")
    if config.privacy.on:
        raise ConfigError("membership is measured without privacy, whose promise wardround privacy audit tests")
    with tempfile.TemporaryDirectory(prefix="wardround-") as name:
        folder = Path(name)
        pool = build_pool(config, data, policy, folder)
        try:
            results = score_games(pool, play_games(pool, policy, games, share, seed, folder, on_game))
        except SiteError as error:
            return [MembershipResult("all answers", None, None, None, len(pool.people), 0.0, 0, str(error))]
        if crafted and pool.site.task.binary and not pool.site.task.channels:
            for kind in ("test", "validation"):
                results.append(attack_target(pool, policy, kind, crafted, games, share, folder, seed, on_game))
    return results


def play_games(
    pool: Pool,
    policy: SitePolicy,
    games: int,
    share: float,
    seed: int,
    folder: Path,
    on_game: OnGame,
) -> Games:
    """Play all games.

    Raises:
        SiteError: the hospital refuses to answer.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray(pool.people)
    sides, numbers = [], []
    for game in range(games):
        inside = frozenset(names[rng.random(len(names)) < share].tolist())
        context = SiteContext(policy, site="hospital", data=pool.data, people=inside, state=folder / f"game-{game}")
        numbers.append(ask_hospital(pool, context))
        site = load_site(context, pool.config)
        side_by_name = dict.fromkeys(pool.people, 0)
        for index, split in enumerate(SPLITS, start=1):
            side_by_name |= dict.fromkeys(getattr(site, split).people_names, index)
        sides.append([side_by_name[name] for name in pool.people])
        clear_site_cache()
        on_game(game + 1, games)
    widths = {kind: len(array) for each in numbers for kind, array in each.items()}
    answers = {
        kind: np.stack([each.get(kind, np.full(width, np.nan)) for each in numbers]) for kind, width in widths.items()
    }
    return Games(np.asarray(sides), answers)


def ask_hospital(pool: Pool, context: SiteContext) -> dict[str, Floats]:
    """Return a hospital's answers as numbers, by kind; kinds that it has no people for are left out.

    Raises:
        SiteError: it refuses the handshake, the scaling or training.
    """
    config, run = pool.config, secrets.token_hex(16)
    about = handle(context, HandshakeRequest(config))
    assert isinstance(about, HandshakeReply)
    answers: dict[str, Floats] = {}
    if pool.scaling:
        sums = handle(context, ScalingRequest(config, run_id=run))
        assert isinstance(sums, ScalingReply)
        answers[SUMS] = np.concatenate(list(sums.sums.values()))
    first = build_first_weights(pool.site.task, config)
    request = TrainRequest(config, round=1, weights=first, scaling=pool.scaling, run_id=run)
    update = handle(context, request)
    assert isinstance(update, TrainReply)
    steps = [np.asarray(update.weights.get(name, value) - value, np.float64) for name, value in first.items()]
    answers[UPDATE] = np.concatenate([step.ravel() for step in steps])
    for kind, request_type, stated in (
        (VALIDATION, ValidateRequest, about.report.counts.validation),
        (TEST, FinalTestRequest, about.report.counts.test),
    ):
        if not stated.patients:
            continue
        try:
            reply = handle(
                context, request_type(config, round=1, weights=pool.weights, scaling=pool.scaling, run_id=run)
            )
        except SiteError:  # such as weights too far from a small hospital's own update
            continue
        assert isinstance(reply, ValidateReply | FinalTestReply)
        if ALL_PATIENTS not in reply.tables:
            continue
        table = reply.tables[ALL_PATIENTS]
        classes = [0 if count is None else count for count in stated.classes]
        numbers = np.concatenate([[stated.patients, *classes], read_counts(table)]).astype(np.float64)
        answers[kind] = numbers[: 1 + len(classes) + table.confusion.size]
        answers[kind + HISTOGRAM] = numbers
    return answers


def score_games(pool: Pool, games: Games) -> list[MembershipResult]:
    """Return the results of all kinds of answer that there are, and of all together."""
    member = games.side > 0
    results: list[MembershipResult] = []
    best: dict[int, tuple[float, Floats]] = {}
    for kind, side in SIDES.items():
        if kind not in games.answers:
            continue
        answered = ~np.isnan(games.answers[kind]).any(1)
        if answered.sum() < 2 * FOLDS:
            continue
        answers, steps = games.answers[kind][answered], pool.steps[kind]
        if kind.endswith(HISTOGRAM):
            picked = select_cuts(answers, pool.steps[kind.removesuffix(HISTOGRAM)].shape[1])
            answers, steps = answers[:, picked], steps[:, picked]
        there = games.side == side
        ratios = np.zeros(there.shape)  # no answer is taken as no evidence
        ratios[answered] = compute_ratios(answers, steps, there[answered], rescale=kind == UPDATE)
        able = there.any(0)
        chosen = ratios[answered][:, able], there[answered][:, able], ~member[answered][:, able]
        known = measure_auroc(*chosen) if able.any() else None
        if known is not None and known[0] > best.get(side, (0.0, ratios))[0]:
            best[side] = known[0], ratios
        within = measure_auroc_within(*chosen) if able.any() else None
        mixed = mix_sides({side: ratios}, games.side)[answered]
        among = measure_auroc(mixed, member[answered], ~member[answered])
        behind = float(there[answered].sum(1).mean())
        results.append(MembershipResult(kind, among, known, within, len(pool.people), behind, int(answered.sum())))
    for name, sides in ((FIGURES, (2, 3)), (TOGETHER, (1, 2, 3))):
        mixed = mix_sides({side: best[side][1] for side in sides if side in best}, games.side)
        among = measure_auroc(mixed, member, ~member)
        behind = float(np.isin(games.side, sides).sum(1).mean())
        results.append(MembershipResult(name, among, None, None, len(pool.people), behind, len(member)))
    return results


def raise_if_above(results: Sequence[MembershipResult]) -> None:
    """Raise AuditError if test or validation figures separate members from others better than MAX_AUROC."""
    for item in results:
        if item.answers in LIMITED and item.auroc is not None:
            value, low, _ = item.auroc
            if low > MAX_AUROC:
                raise AuditError(
                    f"FAILED: {item.answers} separate members from others: AUROC {value:.3f}, above {MAX_AUROC}"
                )


def membership_to_dict(results: Sequence[MembershipResult]) -> list[dict[str, Any]]:
    """Return the results, JSON-ready."""
    return [asdict(item) for item in results]


def render_membership(results: Sequence[MembershipResult]) -> str:
    """Return the results as a Markdown table."""

    def show(figure: tuple[float, float, float] | None) -> str:
        return "" if figure is None else "{:.3f} ({:.3f} to {:.3f})".format(*figure)

    header = ["answers", "AUROC", "side known", "side known, one hospital", "people behind the answer", "games"]
    rows = [
        [
            item.answers,
            item.refused or show(item.auroc),
            show(item.side_auroc),
            show(item.within_auroc),
            f"{item.behind:.0f}",
            str(item.games),
        ]
        for item in results
    ]
    return render_markdown_table(header, rows)
