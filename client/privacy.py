"""Differentially private training (Abadi et al. 2016, arXiv:1607.00133): whom it protects, what it costs.

Levels. Neighbouring data sets differ in one unit, which is added or taken away:
- `patient`: the unit is a person with all their recordings and examples. A step draws people, each with chance q,
  takes at most `examples` of the examples of each (drawn anew at each step), and clips the gradient of their mean loss
  as one. What is protected: whether a person took part at this hospital, and all that they contributed.
- `record`: the unit is one example (a heartbeat, an hour). What is protected is that example alone: a person with a
  thousand of them has no promise worth the name.
- `hospital`: the unit is a hospital's contribution (client/hospital.py).
At the first two levels are not protected: the figures on validation and test patients, who are other people; how many
train, where the policy declares that public (client/counting.py); facts that hold for a whole hospital. The server
sees each site's update: the promise holds for what it sees, because the noise is added here, before an update leaves.

A round is charged to the site's ledger (client/ledger.py) before it trains, for all its steps.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client import inputs
from client.accounting import Spent, epsilon, noise_for, steps_of
from client.gradients import Clipping, Gradients, Loss, each_loss
from client.ledger import Charge, Ledger, Row, folder_digest, path_of
from client.place import Place
from client.training import FitResult, Schedule, Stopped, augmented, beside, choose_device, make_optimizer, tensors
from common import models, noise
from common.config import RunConfig, TrainingConfig
from common.errors import ConfigError, SiteError
from common.messages import Request
from common.models._layers import Drawing
from common.seeds import seed_for
from common.task import Task
from sites.cohort import Cohort, Windows

if TYPE_CHECKING:
    from client.work import Site

UNITS = {"patient": "person", "record": "example", "hospital": "hospital"}
PEOPLE = "people"
"""Under which the ledger keeps a digest of who trains."""
STATISTICS = 0
"""The round under which the ledger holds sums over patients, before the first."""


@dataclass(frozen=True)
class Plan:
    """How a round trains. `sigma`: noise in norms of `clip`; `steps`: of this round; `private`: false in tests.

    `units`: how many there are, as the server may know; 0: as many as there are.
    """

    level: str
    q: float
    sigma: float
    clip: float
    steps: int
    examples: int
    private: bool = True
    units: int = 0


def refuse(place: Place, site: Site, config: RunConfig) -> None:
    """Refuse, before anything is trained or sent, what policy, data or model do not allow.

    Raises:
        SiteError: the policy or the data forbid it.
        ConfigError: the model has no gradients of single units.
        DataError: the ledger cannot be used.
    """
    policy, privacy = place.policy, config.privacy
    if not privacy.on:
        if policy.needs_privacy:
            raise SiteError("policy: nothing trains here without differential privacy: set privacy.epsilon")
        return
    if privacy.kind not in policy.privacy_levels:
        raise SiteError(f"policy: privacy.level={privacy.kind} is not allowed here")
    if privacy.noise == "seeded" and not policy.seeded_noise:
        raise SiteError("policy: privacy.noise=seeded is NOT PRIVATE and not allowed here")
    if privacy.delta > policy.max_delta:
        raise SiteError(f"policy: privacy.delta={privacy.delta:g} is above the {policy.max_delta:g} allowed here")
    if privacy.epsilon is not None and policy.max_epsilon is not None and privacy.epsilon > policy.max_epsilon:
        raise SiteError(f"policy: privacy.epsilon={privacy.epsilon:g} is above the {policy.max_epsilon:g} allowed here")
    if privacy.kind == "hospital" and privacy.noise_at == "server" and not policy.server_noise:
        raise SiteError("policy: privacy.noise_at=server is not allowed here: this hospital adds its noise itself")
    if privacy.validation == "unprotected" and not policy.unprotected_validation:
        raise SiteError("policy: privacy.validation=unprotected is not allowed here")
    if 0 < site.train.people() < policy.min_training_patients:
        raise SiteError(f"policy: fewer than {policy.min_training_patients} people to train on")
    if len(site.train.y) and privacy.kind != "hospital":
        units = count_units(site.train, privacy.kind)
        if privacy.delta >= 1 / units:
            how_many = f"{units} {UNITS[privacy.kind]}s" if policy.counts == "public" else f"the {privacy.kind}s here"
            raise SiteError(
                f"privacy.delta={privacy.delta:g} must be below 1 / {how_many}: with such a delta one of them could be "
                "published"
            )
    if privacy.kind != "hospital":
        models.refuse_without_units(models.build(site.task, config.model, seed=0), privacy.kind)
    ledger = ledger_of(place, site)
    ledger.check()
    if privacy.kind != "hospital" and not policy.several_splits:
        before = ledger.kept(PEOPLE)
        if before is not None and before != people_digest(site.train):
            raise SiteError(
                "policy: other people would train here than in earlier private runs, and who was tested then is not "
                "protected: keep the sites section, or allow several_splits"
            )


def spends(config: RunConfig, task: Task) -> bool:
    """Return whether a private run sums over patients before it trains."""
    privacy = config.privacy
    return inputs.how(config.data, task) == "standard" and privacy.statistics_share > 0 and privacy.kind != "hospital"


def planned(config: RunConfig) -> Spent | None:
    """Return the steps of a run whose noise is given; none: it is to be solved."""
    privacy = config.privacy
    return None if privacy.sigma is None else Spent(privacy.chance, privacy.sigma, _steps(config))


def _steps(config: RunConfig) -> int:
    rounds = config.federation.rounds
    if config.privacy.kind == "hospital":
        return rounds
    return steps_of(rounds, config.training.epochs, config.privacy.sampling)


def statistics_sigma(config: RunConfig, rows: Sequence[Row] = (), run: str = "") -> float:
    """Return the noise of sums over patients, in norms of a unit's vector: so that they alone spend their share.

    The share is of the run's epsilon; where a run gives its noise instead, of what that spends.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    before = next((row.sigma for row in rows if row.run == run and row.round == STATISTICS), None)
    if before is not None:
        return before
    privacy, given = config.privacy, planned(config)
    share, target = privacy.statistics_share, privacy.epsilon
    if given is not None:
        target = epsilon([given], privacy.delta, privacy.accountant) / (1 - share)
    assert target is not None
    return noise_for(share * target, privacy.delta, 1.0, 1, privacy.accountant)


def sigma_of(config: RunConfig, rows: Sequence[Row] = (), run: str = "", statistics: bool = False) -> float:
    """Return the noise of a run's steps: as asked for, or solved from all steps that the run plans.

    A run that has been charged before goes on with the noise it has: solving takes seconds, and a hospital's client
    may be a new process for each message. The check of each charge holds whatever the noise.

    Args:
        config: the run.
        rows: the site's charges.
        run: its name in them.
        statistics: whether sums over patients are paid from the same epsilon.

    Raises:
        ConfigError: the epsilon cannot be kept.
    """
    privacy = config.privacy
    before = next((row.sigma for row in rows if row.run == run and row.round != STATISTICS), None)
    if before is not None:
        return before
    if privacy.sigma is not None:
        return privacy.sigma
    assert privacy.epsilon is not None
    beside = (Spent(1.0, statistics_sigma(config, rows, run), 1),) if statistics else ()
    return noise_for(privacy.epsilon, privacy.delta, privacy.chance, _steps(config), privacy.accountant, beside)


def ledger_of(place: Place, site: Site) -> Ledger:
    """Return a site's ledger; a hospital's is bound to the content of its folder, a simulated one's to its cohort.

    Raises:
        SiteError: the site has no folder for it.
    """
    if place.state is None:
        raise SiteError("privacy needs a folder for the ledger of what was spent: give --state")
    path = path_of(place.state, site.name)
    if place.data is not None:
        return Ledger(path, folder_digest(place.data, path.with_name("data-digests.json")))
    return Ledger(path, cohort_digest(site))


_digests: dict[int, tuple[Site, str]] = {}
"""Of the last sites that were asked for: hashing a cohort takes as long as an epoch of a small model."""


def cohort_digest(site: Site) -> str:
    """Return a digest of all examples of a site, with whose they are, whatever their split."""
    known = _digests.get(id(site))
    if known is not None and known[0] is site:
        return known[1]
    every = []
    for part in (site.train, site.validation, site.test):
        person = np.asarray(part.persons, dtype=object)[part.patient] if len(part.y) else np.zeros(0, object)
        for row, name in enumerate(person):
            x = part.x[row : row + 1]
            held = hashlib.sha256(str(name).encode() + b"\x1f")
            held.update(np.ascontiguousarray(x.dense() if isinstance(x, Windows) else x).tobytes())
            held.update(
                np.ascontiguousarray(part.features[row]).tobytes() + np.ascontiguousarray(part.y[row]).tobytes()
            )
            every.append(held.digest())
    found = hashlib.sha256(b"".join(sorted(every))).hexdigest()
    if len(_digests) >= 1024:
        _digests.clear()
    _digests[id(site)] = site, found
    return found


def begin(place: Place, site: Site, request: Request, units: int) -> tuple[Plan, dict[str, Any]]:
    """Charge a round that `refuse` has let pass; return how it trains, and what the report tells of it.

    `units`: how many there are, as the server may know (client/counting.py).

    Raises:
        BudgetSpent: the round would overspend; nothing trains.
        ConfigError: the strategy trains what is not charged.
    """
    config, privacy = request.config, request.config.privacy
    if request.method.control or request.method.pull is not None:
        raise ConfigError(f"federation.strategy={config.federation.strategy.name}: not with privacy: use fedavg")
    steps = steps_of(1, config.training.epochs, privacy.sampling)
    ledger = ledger_of(place, site)
    rows = ledger.rows()
    sigma = sigma_of(config, rows, request.run_id, spends(config, site.task))
    secure = privacy.noise == "secure"
    plan = Plan(privacy.kind, privacy.sampling, sigma, privacy.clip, steps, privacy.examples, secure, units)
    row = charge(
        place, site, charge_of(place, site, request.run_id, config, Spent(plan.q, sigma, steps), request.round)
    )
    sums = [item.sigma for item in rows if item.run == request.run_id and item.round == STATISTICS]
    return plan, told(row, plan.clip, units) | ({"statistics": sums[-1]} if sums else {})


def charge(place: Place, site: Site, wanted: Charge) -> Row:
    """Charge, and keep who trains: a later run with other people is refused (`refuse`).

    Raises:
        BudgetSpent: it would overspend; nothing was charged.
        DataError: the ledger cannot be used.
    """
    ledger = ledger_of(place, site)
    if wanted.level != "hospital" and not place.policy.several_splits:
        ledger.keep(PEOPLE, people_digest(site.train))
    return ledger.charge(wanted)


def people_digest(train: Cohort) -> str:
    """Return a digest of who trains, whatever their examples."""
    names = sorted({train.persons[i] for i in np.unique(train.patient)})
    return hashlib.sha256("\x1f".join(names).encode()).hexdigest()


def charge_of(place: Place, site: Site, run: str, config: RunConfig, spent: Spent, number: int) -> Charge:
    """Return what to charge for a round, or for STATISTICS."""
    privacy = config.privacy
    return Charge(
        run,
        number,
        privacy.kind,
        UNITS[privacy.kind],
        count_units(site.train, privacy.kind),
        spent,
        privacy.delta,
        privacy.accountant,
        privacy.epsilon,
        place.policy.max_epsilon,
        privacy.noise == "secure",
    )


def told(row: Row, clip: float, units: int) -> dict[str, Any]:
    """Return what a site tells of its spending: figures of the plan and sums of steps, nothing of patients' values.

    `units`: how many there are, as the server may know.
    """
    held = asdict(row)
    names = (
        "level",
        "unit",
        "q",
        "sigma",
        "steps",
        "delta",
        "accountant",
        "epsilon_run",
        "epsilon",
        "private",
    )
    return {**{name: held[name] for name in names}, "clip": clip, "units": units}


def count_units(train: Cohort, level: str) -> int:
    """Return how many people or examples train; a hospital is one."""
    if level == "hospital":
        return 1
    return train.people() if level == "patient" else len(train.y)


def units_of(train: Cohort, level: str) -> list[npt.NDArray[np.int64]]:
    """Return the rows of each unit: of each person, whatever their recordings, or each row for itself."""
    if level == "record":
        return list(np.arange(len(train.y))[:, None])
    persons = sorted({train.persons[i] for i in np.unique(train.patient)})
    number = {name: i for i, name in enumerate(persons)}
    owner = np.asarray([number.get(name, -1) for name in train.persons])[train.patient]
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)


def fit(
    model: nn.Module,
    train: Cohort,
    config: TrainingConfig,
    plan: Plan,
    seed: int,
    *,
    schedule: Schedule | None = None,
    stop: threading.Event | None = None,
    proximal: float = 0.0,
    anchor: Mapping[str, Any] | None = None,
    source: noise.Source | None = None,
    gradients: Callable[[nn.Module, Loss], Clipping] = Gradients,
) -> FitResult:
    """Train `model` in place on `train`, privately: DP-SGD, with any optimiser on the noisy gradients.

    A step's gradient is (sum of clipped gradients of the drawn units + noise) / (q * plan.units); a step that draws
    nobody is noise alone, and counts. Nothing that depends on the data but the weights leaves: no loss is told.

    Args:
        model, train, config, schedule, stop, proximal, anchor: as client.training.fit.
        plan: what was charged.
        seed: in tests alone, of everything; else all is drawn anew.
        source: of noise and sampling; none: as the plan says.
        gradients: of a model and a loss: what clips and sums.

    Raises:
        SiteError: there is nothing to train on, a weight is not finite, or `stop` was set.
    """
    if len(train.y) == 0:
        raise SiteError("no training examples at this site")
    schedule = schedule or Schedule(0, config.epochs)
    device = choose_device(config.device)
    model.to(device).train()
    models.frozen(model, config.freeze)
    cut, features, y = tensors(train, device)
    if source is None:
        source = noise.Secure() if plan.private else noise.Seeded(seed_for(seed, "private"))
    # whoever knew a unit's dropout could see by it how many units were drawn before: hence also of a secret seed
    hidden = secrets.randbits(31) if source.private else seed
    stir = torch.Generator().manual_seed(seed_for(hidden, "augment"))
    drop = torch.Generator().manual_seed(seed_for(hidden, "dropout"))
    for module in model.modules():
        if isinstance(module, Drawing):
            module.generator = drop

    def rows(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = index.to(device)
        x = cut(index)
        return (augmented(x, config.augment, stir) if config.augment else x), features[index], y[index]

    units = units_of(train, plan.level)
    way = gradients(model, each_loss(train.task))
    optimizer = make_optimizer(model, config)
    homes = beside(model, anchor, device) if proximal else []
    limit = plan.clip * noise.clip_margin(way.size, plan.sigma) if math.isfinite(plan.clip) else plan.clip
    rates = 0.0
    for step in range(plan.steps):
        if stop is not None and stop.is_set():
            raise Stopped("stopped before the end")
        if config.schedule == "cosine":
            share = (schedule.done + step * config.epochs / plan.steps) / max(schedule.total, 1)
            rate = config.lr * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)
            for group in optimizer.param_groups:
                group["lr"] = rate
        drawn = [_some(units[i], plan.examples, source) for i in noise.drawn(source, len(units), plan.q)]
        total = way.clipped_sum(drawn, rows, limit)
        if plan.sigma:
            total = noise.noisy(total, plan.sigma * plan.clip, source)
        flat = torch.from_numpy(total / (plan.q * (plan.units or len(units)))).float().to(device)
        trained = list(way.trained.values())
        for parameter, part in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
            parameter.grad = part.view(parameter.shape).contiguous(memory_format=_layout(parameter))
        for parameter, home in homes:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - home, alpha=proximal)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rates += float(optimizer.param_groups[0]["lr"])
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise SiteError("a weight is not a finite number: lower training.lr")
    return FitResult(plan.units or len(y), plan.steps, (), (), False, rates)


def _some(unit: npt.NDArray[np.int64], most: int, source: noise.Source) -> npt.NDArray[np.int64]:
    """Return at most so many rows of a unit, drawn without replacement."""
    if len(unit) <= most:
        return unit
    return np.sort(unit[np.argsort(source.uniform(len(unit)), kind="stable")[:most]])


def _layout(parameter: nn.Parameter) -> torch.memory_format:
    """Return the layout of a parameter: fused optimisers want its gradient to lie as it does."""
    last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not parameter.is_contiguous() else torch.contiguous_format
