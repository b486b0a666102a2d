"""More attacks of experiments/privacy/gate_audit.py: on single weights, on sums of answers, and on clipping."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from client.input_scaling import compute_input_moments
from client.site import Site, load_site
from common import models
from common.arrays import Weights
from common.config import RunConfig
from common.metrics.table_names import ALL_PATIENTS
from common.replies import FinalTestReply, ScalingReply, TrainReply
from common.requests import FinalTestRequest, ScalingRequest, TrainRequest
from common.scaling import RANK_BINS, Scaling, fit_standard_scaling, rank_bins
from experiments.privacy.gate_attacks import AttackResult, Coordinator, Floats, count_matches, read_true_rows

ONE_STEP: dict[str, Any] = {
    "training__optimizer": "sgd", "training__lr": 1.0, "training__momentum": 0.0, "training__weight_decay": 0.0,
    "training__schedule": "constant", "training__clip_norm": 1e9, "training__batch_size": 65_536,
    "training__epochs": 1, "training__loss": "cross_entropy", "federation__strategy": {"name": "fedavg"},
}  # fmt: skip
"""One step over all who train: the update is the mean gradient."""
LINEAR: dict[str, Any] = {**ONE_STEP, "model": {"name": "logreg"}}
FEW = 4
"""A count of so many people is theirs, not a group's."""
HIDDEN = 4096
"""Units of a crafted layer: many, because noise on a whole unit was spread over its inputs."""
SMALL = 1e-3
"""Size of crafted weights: small, so that they lie near the first update."""


def _layers(width: int) -> dict[str, Any]:
    return {"name": "mlp", "options": {"widths": [width], "norm": False, "dropout": 0.0}}


def _first_weights(config: RunConfig, site: Site) -> Weights:
    built = models.build_model(site.task, config.model, config.seed)
    return {name: value.detach().numpy().copy() for name, value in built.state_dict().items()}


def _ask_scaling(coordinator: Coordinator, site: Site) -> Scaling:
    """Return the scaling that the hospital's sums give; where it gives none, the true one, which helps the attack."""
    reply = coordinator.ask(ScalingRequest(coordinator.change_config(data__scaling="standard")))
    sums = reply.sums if isinstance(reply, ScalingReply) else compute_input_moments(site.train)
    return fit_standard_scaling(dict(sums))


def _most_varied(values: Floats) -> int:
    return int(np.argmax([len(np.unique(column)) for column in values.T]))


def attack_rank_table(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Replace every value of an input but one by 0, so that its weight's update is that of the people who have it."""
    config = coordinator.change_config(**LINEAR, data__scaling="quantile")
    site = load_site(coordinator.context, config)
    values = site.train.features.astype(np.float64)
    column, recovered_count, alone = _most_varied(values), 0, 0
    weights = _first_weights(config, site)
    for value in np.unique(values[:, column])[:12]:
        centre, spread = np.zeros(values.shape[1]), np.full(values.shape[1], 20.0)
        centre[column] = value - 0.25
        ranks = np.zeros((values.shape[1], RANK_BINS), np.float32)
        value_bin = rank_bins(
            np.asarray([[value]], np.float32), centre[column : column + 1], spread[column : column + 1]
        )[0, 0]
        ranks[column, value_bin] = 1.0
        sent = Scaling(centre, spread, ranks).to_bytes()
        run = secrets.token_hex(16)
        reply = coordinator.ask(TrainRequest(config, round=1, weights=weights, scaling=sent, run_id=run))
        who = np.flatnonzero(values[:, column] == value)
        alone += len(who) == 1
        if len(who) == 1 and isinstance(reply, TrainReply):
            net = _change(reply, weights)[1, column] * len(values) / 0.5
            recovered_count += round(float(net)) == 2 * int(site.train.y[who[0]]) - 1
    return coordinator.result("one value alone in a rank table", recovered_count, alone)


def _change(reply: TrainReply, weights: Weights) -> Floats:
    changed: Floats = reply.weights["out.weight"].astype(np.float64) - weights["out.weight"]
    return changed


def attack_rare_code(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Read the outcomes of the few people who have a code, with minus without, from an honest first round."""
    config = coordinator.change_config(**LINEAR, data__scaling="standard")
    site = load_site(coordinator.context, config)
    scaling, values = _ask_scaling(coordinator, site), site.train.features
    weights, recovered_count, alone = _first_weights(config, site), 0, 0
    reply = coordinator.ask(
        TrainRequest(config, round=1, weights=weights, scaling=scaling.to_bytes(), run_id=secrets.token_hex(16))
    )
    for column in range(values.shape[1]):
        kinds, count = np.unique(values[:, column], return_counts=True)
        rare = values[:, column] == kinds[count.argmin()]
        truth = int((2 * site.train.y[rare] - 1).sum())
        if len(kinds) != 2 or count.min() > FEW or not truth:
            continue
        alone += 1
        if isinstance(reply, TrainReply):
            bias = float(reply.weights["out.bias"][1] - weights["out.bias"][1])
            own = _change(reply, weights)[1, column] * scaling.spread[column] + scaling.centre[column] * bias
            other = float(kinds[count.argmax()])
            net = (own - other * bias) * len(values) / 0.5 / (float(kinds[count.argmin()]) - other)
            recovered_count += abs(float(net) - truth) < 0.3
    return coordinator.result("a rare code in an honest update", recovered_count, alone)


def attack_layer_columns(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Craft hidden units that only the person with the largest value of an input activates, times the other inputs."""
    wide = len(whole.task.features)
    config = coordinator.change_config(
        **{**ONE_STEP, "training__lr": 10.0}, model=_layers(HIDDEN), data__scaling="standard"
    )
    site = load_site(coordinator.context, config)
    scaling = _ask_scaling(coordinator, site)
    scaled = scaling.apply(site.train.features).astype(np.float64)
    recovered = []
    for column in range(wide):
        ordered = np.unique(scaled[:, column])
        if len(ordered) < 5 or (scaled[:, column] == ordered[-1]).sum() != 1:
            continue
        first = _first_weights(config, site)
        request = TrainRequest(config, round=1, weights=first, scaling=scaling.to_bytes(), run_id=secrets.token_hex(16))
        coordinator.ask(request)
        crafted = {name: np.zeros_like(value) for name, value in first.items()}
        into, bias = (next(n for n in first if n.startswith("body") and n.endswith(end)) for end in ("weight", "bias"))
        middle, gap = (ordered[-1] + ordered[-2]) / 2, (ordered[-1] - ordered[-2]) / 2
        crafted[into][: wide + 1, column] = SMALL / gap
        crafted[bias][:] = -SMALL
        crafted[bias][: wide + 1] = -SMALL / gap * middle
        for unit in range(wide):
            crafted[into][unit, unit] += SMALL * 0.02
        reply = coordinator.ask(replace(request, round=2, weights=crafted))
        if isinstance(reply, TrainReply):
            update = _change(reply, crafted)[1]
            with np.errstate(divide="ignore", invalid="ignore"):
                row = (update[:wide] / update[wide] - 1) / 0.02
            recovered.append(row * scaling.spread + scaling.centre)
    return coordinator.result(
        "columns of a crafted layer", count_matches(recovered, read_true_rows(whole)), len(scaled)
    )


def attack_windows(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Combine four answers about windows of one input, all far apart, into the people of a narrow one."""
    config = coordinator.change_config(
        **{**ONE_STEP, "training__lr": 10.0}, model=_layers(8), data__scaling="standard",
        evaluation={"bins": 16, "bootstrap": 0, "recalibrate": []},
    )  # fmt: skip
    site = load_site(coordinator.context, config)
    scaling, values = _ask_scaling(coordinator, site), site.test.features.astype(np.float64)
    column = _most_varied(values)
    kinds = np.unique(values[:, column])
    low, middle = (float(np.quantile(values[:, column], q)) + 0.37 for q in (0.25, 0.5))
    few, right = 0, 0
    for value in kinds[kinds > np.quantile(values[:, column], 0.7)][:6]:
        half = 0.5 * float(np.diff(kinds).min())
        state: list[tuple[RunConfig, str, Weights]] = []
        answers = []
        for step, (first, end) in enumerate(
            ((-np.inf, value + half), (-np.inf, middle), (low, value - half), (low, middle))
        ):
            if step % 2 == 0:  # a run may have three models tested
                state = [(config, secrets.token_hex(16), _first_weights(config, site))]
                coordinator.ask(
                    TrainRequest(config, round=1, weights=state[0][2], scaling=scaling.to_bytes(), run_id=state[0][1])
                )
            crafted = _window(state[0][2], scaling, column, (first, end), 0.4 * half)
            reply = coordinator.ask(
                FinalTestRequest(config, round=1, weights=crafted, scaling=scaling.to_bytes(), run_id=state[0][1])
            )
            if isinstance(reply, FinalTestReply) and ALL_PATIENTS in reply.tables:
                answers.append(reply.tables[ALL_PATIENTS].confusion.reshape(2, 2)[:, 1].astype(int))
        inside = np.abs(values[:, column] - value) < half
        truth = np.array([(inside & (site.test.y == kind)).sum() for kind in (0, 1)])
        if truth.sum() != 1:
            continue
        few += 1
        right += len(answers) == 4 and bool((answers[0] - answers[1] - answers[2] + answers[3] == truth).all())
    # answers that are some people off are right once in six windows by chance
    return coordinator.result("four windows of one score", right if right > 1 else 0, few)


def _window(first: Weights, scaling: Scaling, column: int, edges: tuple[float, float], ramp: float) -> Weights:
    """Return weights that predict the event for those between two values of an input; each edge has a short ramp."""
    crafted = {name: np.zeros_like(value) for name, value in first.items()}
    into, bias = (next(n for n in first if n.startswith("body") and n.endswith(end)) for end in ("weight", "bias"))
    step = ramp / float(scaling.spread[column])
    for unit, (edge, off) in enumerate((edge, off) for edge in edges for off in (step, 0.0)):
        z = (edge - scaling.centre[column]) / scaling.spread[column] if np.isfinite(edge) else -50.0
        crafted[into][unit, column], crafted[bias][unit] = 1.0, off - z
    crafted["out.weight"][1, :4] = [1, -1, -1, 1]
    crafted["out.bias"][1] = -step / 2
    return crafted


def attack_tiny_clip(coordinator: Coordinator, whole: Site) -> AttackResult:
    """Let a private round clip to a norm that single precision cannot square, with inputs scaled down to match."""
    privacy = {"epsilon": 1.0, "delta": 1e-6, "sampling": 1.0, "clip": 1.0}
    config = coordinator.change_config(
        **LINEAR,
        data__scaling="standard",
        federation__choose="last",
        federation__rounds=1,
        privacy=privacy,
        evaluation__domain_shift=False,
        federation__start="x",
        training__freeze=["out.bias"],
    )
    tiny = config.privacy.model_copy(update={"clip": 1e-29})  # past the check of a configuration that is read
    config = config.model_copy(update={"privacy": tiny})
    site = load_site(coordinator.context, config)
    weights, values = _first_weights(config, site), site.train.features.astype(np.float64)
    column, wide = _most_varied(values), values.shape[1]
    spread = np.full(wide, 1e28)
    reply = coordinator.ask(
        TrainRequest(config, round=1, weights=weights, scaling=Scaling(np.zeros(wide), spread).to_bytes(),
                     run_id=secrets.token_hex(16))
    )  # fmt: skip
    right = 0
    if isinstance(reply, TrainReply):
        truth = float(((2 * site.train.y - 1) * values[:, column]).sum())
        spent = reply.report.privacy
        units = spent.units if spent is not None else len(values)
        sent = float(_change(reply, weights)[1, column]) * 1e28 * units / 0.5
        right = int(abs(sent - truth) < 1e-3 * abs(truth))
    return coordinator.result("a clipping norm below single precision", right * len(values), len(values))


WEIGHT_ATTACKS: tuple[Callable[[Coordinator, Site], AttackResult], ...] = (
    attack_rare_code,
    attack_rank_table,
    attack_layer_columns,
    attack_windows,
    attack_tiny_clip,
)
