"""A run's configuration in words, for whoever at a hospital decides on it."""

from __future__ import annotations

from client.gate.guarded_settings import GUARDED_SETTINGS
from client.policy import SitePolicy
from client.privacy.accounting import compute_epsilon
from client.privacy.budget import get_planned_steps
from client.privacy.checks import MIN_SIGMA
from client.site_context import SiteContext
from common import models
from common.config import RunConfig
from common.detection import to_detection_task
from common.errors import WardroundError
from common.sections.training import FederationConfig
from common.task import Task
from common.untrusted import clean_text
from sites import datasets

BYTES_PER_WEIGHT = 4
MAX_OPTIONS = 300
"""Characters of options that are printed."""


def describe_run(context: SiteContext, config: RunConfig) -> list[str]:
    """Return what a run asks of this hospital, one sentence a line: task, model, rounds, privacy and what is sent."""
    task, policy, federation, training = _find_task(context, config), context.policy, config.federation, config.training
    title = f", {task.name}" if task else ""
    lines = [
        f"Task: {config.data.dataset}{title}{_describe_options(config.data.options)}.",
        f"Model: {config.model.name}{_describe_options(config.model.options)}{_describe_size(config, task)}.",
        f"Strategy: {federation.strategy.name}{_describe_options(federation.strategy.options)}.",
        f"Rounds: {_describe_rounds(federation)}, each with {training.epochs} epochs of training here "
        f"({training.optimizer}, learning rate {training.lr:g}, {training.batch_size} examples a step).",
        "First weights: "
        + ("those of the run's seed." if federation.start is None else "another model's, which need approval too."),
        f"Differential privacy: {describe_privacy(policy, config)}.",
        f"Sends: {'; '.join(list_replies(config, task))}.",
    ]
    if used := [setting.key for setting in GUARDED_SETTINGS if not setting.is_default(config)]:
        lines.append(f"Uses settings that can select people: {', '.join(used)}.")
    return [clean_text(line, 2 * MAX_OPTIONS) for line in lines]


def _describe_rounds(wanted: FederationConfig) -> str:
    if not wanted.patience:
        return str(wanted.rounds)
    return f"at most {wanted.rounds}, until {wanted.patience} in a row have improved no validation"


def describe_privacy(policy: SitePolicy, config: RunConfig) -> str:
    """Return what a run spends of the hospital's privacy budget, in words."""
    privacy = config.privacy
    if not privacy.on:
        return "none"
    epsilon, steps = privacy.epsilon, get_planned_steps(config)
    if steps is not None and steps.sigma >= MIN_SIGMA:
        epsilon = compute_epsilon([steps], privacy.delta, "rdp")
    amount = "an unbounded epsilon" if epsilon is None else f"epsilon {epsilon:.4g}"
    words = f"per {privacy.kind}, at most {amount} at delta {privacy.delta:g} over all rounds"
    if privacy.kind != "hospital" and policy.counts == "noisy":
        words += f", and once for all runs epsilon {policy.counts_epsilon:g} for the numbers of training patients"
    return words


def list_replies(config: RunConfig, task: Task | None) -> list[str]:
    """Return what a run has a hospital send, phase by phase."""
    private, replies = config.privacy.on, ["numbers of patients and examples by split and class"]
    wanted = config.data.scaling
    if wanted in ("standard", "quantile") or (wanted == "auto" and (task is None or task.units)):
        replies.append(("noisy sums" if private else "sums") + " over the inputs of training patients")
    replies.append("after each round the model's update" + (", with noise" if private else ""))
    if config.federation.choose == "best":
        replies.append("after each round counts of predictions on validation patients")
    if config.detecting and not private:
        replies.append("sums over training patients in the model's latent space")
    replies.append("at the end figures and counts of predictions on test patients")
    if config.evaluation.subgroups.sex or config.evaluation.subgroups.age or config.evaluation.subgroups.columns:
        replies[-1] += ", also for groups of them"
    if config.evaluation.explain != "none":
        replies.append(f"means of attributions over test patients ({config.evaluation.explain})")
    if config.evaluation.domain_shift and not private:
        replies.append("sums and histograms of inputs, to compare hospitals")
    return replies


def _find_task(context: SiteContext, config: RunConfig) -> Task | None:
    """Return the task without reading any data; None where the configuration does not fit the data set."""
    try:
        task = datasets.open_source(config, context.data).task()
        return to_detection_task(task, config.detection) if config.detecting else task
    except WardroundError:
        return None


def _describe_size(config: RunConfig, task: Task | None) -> str:
    if task is None:
        return ", of unknown size"
    try:
        state = models.build_model(task, config.model, config.seed).state_dict()
    except WardroundError:
        return ", which does not fit the task"
    weights = sum(value.numel() for value in state.values())
    return f", {weights:,} weights ({weights * BYTES_PER_WEIGHT:,} bytes in each update)"


def _describe_options(options: object) -> str:
    if not options:
        return ""
    text = ", ".join(f"{key}={value}" for key, value in options.items()) if isinstance(options, dict) else ""
    return f" ({text[:MAX_OPTIONS]})"
