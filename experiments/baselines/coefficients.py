"""Coefficients of a run's logistic regression, with intervals where one person holds all data (a simulation).

The model minimises the mean cross-entropy plus a penalty. Its interval is that of such an estimate over patients
(Huber 1967, Proc. 5th Berkeley Symp. 1:221-233): `H^-1 M H^-1`, where H is the second derivative of what is minimised
and M the variance of the persons' gradients; the rows of a person count as one. It needs rows, so hospitals that keep
their data get coefficients without intervals: a matrix of products of all inputs would have to leave each of them.

A penalised coefficient is drawn towards 0, and its interval is that of the shrunken coefficient, no test of an effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from client import input_scaling
from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import DataError
from common.files import write_json
from common.metrics.drivers import Coefficient, Coefficients
from common.metrics.figures import Figure
from common.run_folder import RunFolder
from common.scaling import Scaling
from common.task import Task
from experiments import restore

Floats = npt.NDArray[np.float64]

MAX_INPUTS = 1000
"""Largest number of inputs of a model whose intervals are computed."""
CONVERGED = 0.25
"""Largest step to the optimum, in standard errors, that a coefficient with an interval may have left."""
INTERVAL = (
    "95% interval over the training patients, of a coefficient that the penalty draws towards 0 (Huber 1967); computed "
    "in the simulation, where all data lie in one place"
)
PER_DEVIATION, PER_RANK, AS_GIVEN = "one standard deviation of the input", "one unit of its scaled rank", "one unit"


@dataclass(frozen=True)
class LinearPart:
    """One hospital's training rows and the model that it uses.

    Attributes:
        x: scaled inputs, `(rows, inputs)`.
        y: 1 with the event, else 0.
        person: index of each row's person.
        weight: the model's coefficients of the event, `(inputs,)`.
        bias: its intercept.
        group: hospitals with the same number share their intercept.
    """

    x: Floats
    y: Floats
    person: npt.NDArray[np.int64]
    weight: Floats
    bias: float
    group: int = 0


def estimate_intervals(parts: Sequence[LinearPart], penalty: float) -> tuple[Floats, float]:
    """Return the standard error of each coefficient, and the largest remaining step to the optimum, in standard errors.

    Args:
        parts: the hospitals' rows; all have the same coefficients.
        penalty: half of it, times the squared coefficients (not the intercepts), is added to the mean cross-entropy.
    """
    groups = sorted({part.group for part in parts})
    rows = sum(len(part.y) for part in parts)
    width = len(parts[0].weight)
    hessian = np.zeros((width + len(groups),) * 2)
    gradients = []
    theta = np.concatenate([parts[0].weight, np.zeros(len(groups))])
    for part in parts:
        column = width + groups.index(part.group)
        z = np.zeros((len(part.y), len(theta)))
        z[:, :width], z[:, column] = part.x, 1.0
        theta[column] = part.bias
        share = 1 / (1 + np.exp(-(part.x @ part.weight + part.bias)))
        hessian += (z * (share * (1 - share))[:, None]).T @ z / rows
        own = np.zeros((int(part.person.max(initial=-1)) + 1, len(theta)))
        np.add.at(own, part.person, z * (share - part.y)[:, None] / rows)
        gradients.append(own)
    penalties = penalty * np.concatenate([np.ones(width), np.zeros(len(groups))])
    hessian += np.diag(penalties)
    each = np.concatenate(gradients)
    slope = each.sum(0) + penalties * theta
    centred = each - each.mean(0)
    inverse = np.linalg.pinv(hessian)
    people = len(each)
    variance = inverse @ (centred.T @ centred * people / max(people - 1, 1)) @ inverse
    error = np.sqrt(np.maximum(np.diag(variance), 0))[:width]
    step = np.abs(inverse @ slope)[:width]
    known = error > 0
    return error, float((step[known] / error[known]).max(initial=0.0)) if known.any() else np.inf


def write_coefficients(config: RunConfig, folder: Path, count: int) -> bool:
    """Write coefficients.json of a run with a logistic regression of an event; return whether there is one.

    Args:
        config: the run.
        folder: its folder.
        count: the number of simulated hospitals; 0: the data are elsewhere.
    """
    if config.model.name != "logreg" or not RunFolder(folder).weights("federated").is_file():
        return False
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    described = describe_coefficients(
        config, folder, [site for site in sites if site.name not in config.sites.external]
    )
    if described is not None:
        write_json(RunFolder(folder).coefficients, described.model_dump())
    return described is not None


def describe_coefficients(config: RunConfig, folder: Path, sites: Sequence[Site]) -> Coefficients | None:
    """Return the coefficients of a run's logistic regression; None if its task has more than an event, or no features.

    Args:
        config: the run.
        folder: its folder.
        sites: the hospitals that trained; none where the data are elsewhere.
    """
    task = Task.from_dict(restore.load_outcome(folder)["task"])
    weights = load_file(RunFolder(folder).weights("federated")).get("out.weight")
    local = restore.list_local_layers(folder)
    if not task.binary or weights is None or weights.shape != (2, len(task.features)) or "out.weight" in local:
        return None
    scaling = restore.load_scaling(folder)
    unit = AS_GIVEN if scaling is None else PER_RANK if len(scaling.ranks) else PER_DEVIATION
    value = weights[1].astype(np.float64) - weights[0]
    note = _explain_no_interval(config, sites, len(value))
    errors, by_site = np.full(len(value), np.nan), {}
    if not note:
        parts = [part for site in sites if (part := _make_part(folder, site, scaling))]
        if "out.bias" in local:
            parts = [replace(part, group=group) for group, part in enumerate(parts)]
        errors, left = estimate_intervals(parts, config.training.weight_decay / 2)
        if not left <= CONVERGED:
            note = "no interval: training had not come close enough to its optimum"
            errors[:] = np.nan
    if sites and not config.privacy.on:
        by_site = {site.name: own for site in sites if (own := _read_local(config, folder, site, scaling)) is not None}
    rows = tuple(
        Coefficient(
            name=name,
            figure=_make_figure(value[at], errors[at]),
            sites={site: _make_figure(own[0][at], own[1][at]) for site, own in by_site.items()},
        )
        for at, name in enumerate(task.features)
    )
    return Coefficients(unit=unit, interval="" if note else INTERVAL, note=note, rows=rows)


def _explain_no_interval(config: RunConfig, sites: Sequence[Site], inputs: int) -> str:
    if not sites:
        return "no interval: it would need products of all inputs from each site"
    if config.privacy.on:
        return "no interval: it would reveal more of the training patients than the private training does"
    if config.training.loss != "cross_entropy":
        return "no interval: the loss weights the classes"
    if config.data.scaling == "site":
        return "no interval: each site scales its inputs on its own"
    if inputs > MAX_INPUTS:
        return f"no interval: more than {MAX_INPUTS} inputs"
    return ""


def _make_part(folder: Path, site: Site, scaling: Scaling | None, model: str = "federated") -> LinearPart | None:
    """Return a hospital's scaled training rows with its model; None without rows."""
    train = input_scaling.apply_scaling(site.train, scaling)
    if not len(train.y):
        return None
    network = restore.model(folder, model, site.name if model == "federated" else None)[0].state_dict()
    weight, bias = (network[name].double().numpy() for name in ("out.weight", "out.bias"))
    person = np.unique(np.asarray(train.persons, dtype=object), return_inverse=True)[1][train.patient]
    return LinearPart(
        x=train.features.astype(np.float64),
        y=train.y.astype(np.float64),
        person=np.unique(person, return_inverse=True)[1],
        weight=weight[1] - weight[0],
        bias=float(bias[1] - bias[0]),
    )


def _read_local(config: RunConfig, folder: Path, site: Site, scaling: Scaling | None) -> tuple[Floats, Floats] | None:
    """Return the coefficients of the model that a hospital trained alone, in the federation's unit, and their errors.

    None if there is no such model, or its unit cannot be converted. Errors are NaN where there is no interval.
    """
    name = f"local:{site.name}"
    try:
        own = restore.load_scaling(folder, name)
        part = _make_part(folder, site, own, name)
    except DataError:
        return None
    if part is None or (scaling is None) != (own is None) or (scaling is not None and len(scaling.ranks)):
        return None
    width = len(part.weight)
    factor = np.ones(width) if scaling is None or own is None else scaling.spread[:width] / own.spread[:width]
    errors, left = estimate_intervals([part], config.training.weight_decay / 2)
    usable = left <= CONVERGED and not _explain_no_interval(config, [site], width)
    return part.weight * factor, errors * factor if usable else np.full(width, np.nan)


def _make_figure(value: float, error: float) -> Figure:
    known = np.isfinite(error) and error > 0
    low, high = (float(f"{value + sign * 1.96 * error:.6g}") if known else None for sign in (-1, 1))
    return Figure(value=float(f"{value:.6g}"), low=low, high=high)
