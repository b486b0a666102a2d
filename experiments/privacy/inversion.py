"""Reconstruction of one beat from a hospital's gradient: a demonstration of what a server could see in an update.

An honest-but-curious server knows the model that it sent and the gradient of one step. There are two attacks:
- `linear`: if the first layer is linear in the signal, its gradients are multiples of the input, which can be computed
  exactly (Phong et al. 2018, doi:10.1109/TIFS.2017.2787987; Geiping et al. 2020, arXiv:2003.14053, proposition 3.1);
- `search`: otherwise inputs are optimised until their gradient has the same direction (Zhu et al. 2019,
  arXiv:1906.08935, with the cosine distance and the smoothness term of Geiping et al. 2020).
The attacker also knows labels and features, and that dropout is off. The gradient is the one that
`client.privacy.dp_sgd.train_privately` passes to its optimiser, without and with the configuration's clipping and
noise, for one beat and for several together.

Beats resemble each other, so a reconstruction is only informative where it is better than a guess: the mean training
beat of the same class, which needs no update (GUESS).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from client.privacy import budget
from client.privacy.budget import DpSgdPlan
from client.privacy.dp_sgd import train_privately
from client.training.batches import load_tensors
from client.training.losses import build_example_loss
from common import models
from common.config import RunConfig
from common.errors import ConfigError
from common.models._layers import Dropout
from common.seeds import rng_for, seed_for
from common.task import Task
from experiments.privacy.canaries import call_before_each_step
from sites.cohort import Cohort

Floats = npt.NDArray[np.float32]
GUESS = "guess"
STEPS, RESTARTS, RATE, SMOOTH = 400, 2, 0.05, 1e-3
"""The search: steps, restarts, learning rate, weight of the differences between neighbouring samples."""


@dataclass(frozen=True)
class Reconstruction:
    """A reconstruction from one gradient.

    Attributes:
        name: "guess", "open-N" or "protected-N" for a step of N beats.
        title: description of the gradient.
        beats: beats in the step; 0: a guess without a gradient.
        protected: whether the gradient was clipped and noisy.
        correlation: correlation of the beat with its reconstruction, over all leads.
        error: mean squared difference divided by the beat's variance.
        reconstruction: `(channels, samples)`.
    """

    name: str
    title: str
    beats: int
    protected: bool
    correlation: float
    error: float
    reconstruction: Floats


@dataclass(frozen=True)
class Demonstration:
    """One beat and its reconstructions.

    Attributes:
        site: the hospital.
        synthetic: whether its data are generated.
        model: the model's name.
        attack: "linear" or "search".
        label: the beat's class.
        rate_hz: sampling rate.
        channels: names of the leads.
        sigma: noise multiplier of the configuration.
        clip: clipping norm of the configuration.
        level: privacy level.
        original: `(channels, samples)`, the beat.
        views: its reconstructions.
    """

    site: str
    synthetic: bool
    model: str
    attack: str
    label: str
    rate_hz: float
    channels: tuple[str, ...]
    sigma: float
    clip: float
    level: str
    original: Floats
    views: tuple[Reconstruction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form without signals, because real ones must not be written to disk."""
        views = [{k: v for k, v in asdict(view).items() if k != "reconstruction"} for view in self.views]
        return {k: v for k, v in asdict(self).items() if k not in ("original", "views")} | {"views": views}

    def table(self) -> str:
        """Return the figures as text, one reconstruction on each line."""
        head = f"one beat ({self.label}) at {self.site or 'the hospital'}, model {self.model}, attack {self.attack}"
        lines = [
            f"  {view.title:44} correlation {view.correlation:6.3f}   squared error {view.error:10.3g}"
            for view in self.views
        ]
        return "\n".join([head + ("; SYNTHETIC" if self.synthetic else ""), *lines])


def step_gradient(model: nn.Module, beats: Cohort, config: RunConfig, plan: DpSgdPlan) -> dict[str, Tensor]:
    """Return the gradient of one step of private training in which each beat is a unit."""
    gradient: dict[str, Tensor] = {}

    def observe() -> None:
        gradient.update({name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None})

    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    training = config.training.model_copy(update={"epochs": 1, "augment": 0.0, "device": "cpu", "freeze": ()})
    with call_before_each_step(observe, model):
        train_privately(model, beats, training, plan, seed_for(config.seed, "inversion"))
    model.load_state_dict(state)
    return gradient


def demonstrate_inversion(
    config: RunConfig, train: Cohort, *, beats: int = 8, site: str = "", on_step: Callable[[str], None] | None = None
) -> Demonstration:
    """Reconstruct one training beat from gradients that contain it.

    Args:
        config: a private run; the model is that of the first round.
        train: the patients.
        beats: beats in a step of several beats.
        site: the hospital's name.
        on_step: called with a description of each gradient before it is attacked.

    Raises:
        ConfigError: privacy is off, or there is no signal to reconstruct.
    """
    task = train.task
    if config.privacy.kind not in ("patient", "record"):
        raise ConfigError("privacy inversion: set privacy.epsilon (or sigma) and privacy.level=patient or record")
    if not task.channels or task.kind not in ("multiclass", "multilabel"):
        raise ConfigError("privacy inversion: it needs a signal and classes")
    if not 2 <= beats <= len(train.y):
        raise ConfigError(f"--beats {beats}: from 2 to the hospital's {len(train.y)} training examples")
    model = models.build_model(task, config.model, config.seed)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    rng = rng_for(config.seed, "inversion")
    chosen = rng.choice(len(train.y), beats, replace=False)
    several = one_person_per_example(train.take(chosen))
    one = several.take(np.arange(1))
    cut, *_ = load_tensors(one, torch.device("cpu"))
    original = cut(torch.zeros(1, dtype=torch.long))[0].numpy()
    sigma = budget.solve_training_noise(config, statistics=budget.needs_noisy_sums(config, task))
    attack = _linear_attack(model, task)
    views = [
        _make_reconstruction(GUESS, "a guess without any update", 0, False, original, _mean_beat(train, chosen[0]))
    ]
    for protected in (False, True):
        for group in (one, several):
            count = len(group.y)
            title = ("one beat" if count == 1 else f"{count} beats together") + (
                ", clipped and noisy" if protected else ", no protection"
            )
            if on_step:
                on_step(title)
            noise, clip = (sigma, config.privacy.clip) if protected else (0.0, math.inf)
            plan = DpSgdPlan("patient", 1.0, noise, clip, 1, 1, config.privacy.noise == "secure")
            gradients = step_gradient(model, group, config, plan)
            made = attack(gradients) if attack else _search_attack(model, group, gradients, config.seed, original)
            name = f"{'protected' if protected else 'open'}-{count}"
            views.append(_make_reconstruction(name, title, count, protected, original, made))
    label = task.classes[int(one.y[0])] if task.kind == "multiclass" else "several labels"
    return Demonstration(
        site, train.synthetic, config.model.name, "linear" if attack else "search", label, task.rate_hz,
        task.channel_names, sigma, config.privacy.clip, config.privacy.kind, original, tuple(views),
    )  # fmt: skip


def one_person_per_example(train: Cohort) -> Cohort:
    """Return the same examples, each of a different person."""
    names = tuple(f"beat {i}" for i in range(len(train.y)))
    return replace(
        train, patient=np.arange(len(train.y)), patients=names, persons=names,
        age=None if train.age is None else np.full(len(names), np.nan, np.float32),
        sex=None if train.sex is None else np.full(len(names), -1, train.sex.dtype),
    )  # fmt: skip


def _make_reconstruction(
    name: str, title: str, beats: int, protected: bool, original: Floats, made: Floats
) -> Reconstruction:
    a, b = original.ravel().astype(float), made.ravel().astype(float)
    spread = a.std() * b.std()
    correlation = float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0
    error = float(((a - b) ** 2).mean() / max(a.var(), 1e-12))
    return Reconstruction(name, title, beats, protected, correlation, error, made.astype(np.float32))


def _mean_beat(train: Cohort, row: int) -> Floats:
    """Return the mean beat of the same class of other patients; of any class if no other patient has that class."""
    other = train.patient != train.patient[row]
    same = other & (train.y == train.y[row]) if train.y.ndim == 1 else other
    rows = np.flatnonzero(same if same.any() else np.arange(len(train.y)) != row)
    cut, *_ = load_tensors(train.take(rows), torch.device("cpu"))
    made: Floats = cut(torch.arange(len(rows))).mean(0).numpy()
    return made


def _linear_attack(model: nn.Module, task: Task) -> Callable[[dict[str, Tensor]], Floats] | None:
    """Return the attack on a first layer that is linear in the signal, or None if the model has no such layer.

    Each unit's weight gradient is its bias gradient times the input: least squares over units.
    """
    signal = task.channels * task.samples
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not named or named[0][1].bias is None:
        return None
    name, first = named[0]
    before = first.in_features - signal
    if getattr(getattr(model, "flatten", None), "inputs", "features") == "features" or before not in (
        0,
        len(task.features),
    ):
        return None

    def attack(gradients: dict[str, Tensor]) -> Floats:
        weight, bias = gradients[f"{name}.weight"].double(), gradients[f"{name}.bias"].double()
        made = (bias @ weight) / (bias @ bias).clamp_min(1e-300)
        return made[before:].view(task.channels, task.samples).numpy().astype(np.float32)

    return attack


def _search_attack(
    model: nn.Module, group: Cohort, gradients: dict[str, Tensor], seed: int, original: Floats
) -> Floats:
    """Return the beat whose gradient is closest to the given one; of several, the one most similar to the original.

    Choosing by the original favours the attacker, as does the attacker's knowledge of labels and features.
    """
    _, features, y = load_tensors(group, torch.device("cpu"))
    loss, shape = build_example_loss(group.task), (len(group.y), *original.shape)
    target = torch.cat([part.flatten() for part in gradients.values()])
    parameters = [p for name, p in model.named_parameters() if name in gradients]
    generator = torch.Generator().manual_seed(seed_for(seed, "search"))
    attempts: list[tuple[float, Tensor]] = []
    model.train()
    for _ in range(RESTARTS):
        x = (0.1 * torch.randn(shape, generator=generator)).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        distance = math.inf
        for _ in range(STEPS):
            value = loss(model(x, features), x, features, y).mean()
            made = torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters, create_graph=True)])
            away = 1 - functional.cosine_similarity(made, target, dim=0)
            rough = (x[..., 1:] - x[..., :-1]).abs().mean()
            distance = float(away.detach())
            (x.grad,) = torch.autograd.grad(away + SMOOTH * rough, [x])
            optimizer.step()
            schedule.step()
        attempts.append((distance, x.detach()))
    best = min(attempts, key=lambda item: item[0])[1].numpy()
    return max(best, key=lambda made: _make_reconstruction("", "", 0, False, original, made).correlation)


def draw_inversion(demonstration: Demonstration, folder: Path, title: str) -> list[Path]:
    """Write inversion.svg and inversion.png: the channel with the largest variance, and each reconstruction in a panel.

    Reconstructions are scaled to the beat's mean and standard deviation, because the cosine distance ignores scale.
    """
    from experiments.report.plots.drawing import INK, LOCAL, MUTED, POOLED, create_panel_grid, plot_style, save_drawing

    channel = int(demonstration.original.std(axis=1).argmax())
    beat = demonstration.original[channel].astype(float)
    times = np.arange(len(beat)) / demonstration.rate_hz * 1000
    with plot_style():
        drawing, panels = create_panel_grid(len(demonstration.views) - 1, 2, row_height=2.3)
        guess = next(view for view in demonstration.views if view.name == GUESS)
        for panel, view in zip(panels, [view for view in demonstration.views if view.name != GUESS], strict=True):
            made = view.reconstruction[channel].astype(float)
            made = (made - made.mean()) / max(made.std(), 1e-12) * beat.std() + beat.mean()
            panel.plot(times, beat, color=INK, lw=3.5, alpha=0.25, label="the beat")
            typical = guess.reconstruction[channel]
            panel.plot(times, typical, color=MUTED, lw=0.9, ls=(0, (4, 2)), label="a guess without any update")
            colour = POOLED if view.protected else LOCAL
            panel.plot(times, made, color=colour, lw=1.2)
            panel.set_title(f"{view.title}: correlation {view.correlation:.2f}", loc="left")
            panel.set_xlabel("ms")
        panels[0].legend(frameon=False, loc="upper right")
        tags = ["SYNTHETIC"] if demonstration.synthetic else []
        return save_drawing(drawing, folder, "inversion", title, tags)
