"""The site policy: what a hospital allows. Read from the hospital's own file; no request can widen it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import Field, field_validator

from client.opening_hours import OpeningHours
from common.errors import ConfigError
from common.settings import Section, parse_yaml, validate_settings

DEFAULT_MAX_EPSILON = 8.0
"""Epsilon of all private runs together where a policy sets no limit."""

ANY = "*"
"""In a list of allowed names: every name."""


class SitePolicy(Section):
    """What may leave this hospital, and which training it refuses.

    - `share_resamples`: whoever knows how the resamples were drawn can compute single patients' counts from them. The
      same key allows results with named patients left out, whose difference from the whole is those patients' results.
    - `min_cell_patients`: "results of fewer patients" are those of all, of a group or of a class, and any from which
      they could be computed by subtraction (client/evaluation/small_groups.py). The report says that they were
      suppressed. The default is FEW_PATIENTS of common/metrics/figures.py: fewer could identify a person.
    - `max_epsilon`: at the run's delta (docs/explanation/privacy.md). With it, as with `private_only`, nothing trains
      here without differential privacy. A run may ask for less, never for more. Where it is not set, private runs
      keep to `default_max_epsilon`.
    - `max_evaluation_epsilon`: people who validate and people who are tested have ledgers of their own, and this limits
      each of the two, over all runs.
    - `allowed_settings`: some settings of a run select people, or the grain of an answer; `wardround site explain`
      lists them. Each is refused unless its key is listed here; "*" allows all.
    - `precise_questions`: validated models are counted for themselves, and tested ones. Without growing errors, many
      questions about the same people average the errors away.
    - `max_weight_distance`: weights that the server sends in later rounds must lie near this site's own last update.
      The unit is the norm of this site's longest update in the run.
    - `approval`: with `required` a run that nobody at the hospital has approved is refused and waits (`wardround site
      pending`). An approval holds for one configuration, some days and one run.
    - `allowed_tasks`, `allowed_models`, `allowed_strategies`: names as in a configuration; "*" allows all.
    - `hours`: as client/opening_hours.py reads them, in `time_zone`.
    """

    split: Literal["own", "requested"] = Field(
        "own",
        description="own: this site draws once who trains and who is tested, or takes the published split, the same "
        "for every run; requested: as each run asks",
    )
    test_share: float = Field(0.25, gt=0, lt=1, description="split own: share of patients who are tested")
    validation_share: float = Field(0.2, ge=0, lt=1, description="split own: share of the other patients who validate")
    allowed_settings: tuple[str, ...] = Field((), description="guarded settings that a run may choose, or '*'")
    min_training_patients: int = Field(20, ge=1, description="refuse updates and sums over fewer training patients")
    min_cell_patients: int = Field(5, ge=1, le=1000, description="suppress results and counts of fewer patients")
    min_unit_patients: int = Field(
        5, ge=0, description="withhold the update of a weight that rests on fewer patients; 0: never"
    )
    update_noise: float = Field(
        1.0,
        ge=0,
        le=100,
        description="standard deviation of the noise on a weight's update, as a multiple of the part "
        "of the patient who has the largest in it",
    )
    record_noise: float = Field(
        0.5,
        ge=0,
        le=100,
        description="training without differential privacy sees each patient's numbers with noise of this many "
        "standard deviations of the input, always the same",
    )
    replaced_values: float = Field(
        0.15,
        ge=0,
        lt=0.5,
        description="and each outcome and category replaced by another with this probability; outcomes that are "
        "counted in validation too, whose counts are corrected for it",
    )
    round_counts_to: int = Field(5, ge=1, le=1000, description="round counts of predictions to multiples of this")
    count_noise: float = Field(
        2.0,
        ge=0,
        le=100,
        description="standard deviation, in patients, by which a count is off; drawn for each question",
    )
    precise_questions: int | None = Field(
        10,
        ge=1,
        description="models in 30 days with count_noise; that of the n-th is sqrt(n / this) times as large. null: any",
    )
    max_bins: int = Field(62, ge=16, le=4096, description="most bins of a score histogram")
    start_weights: Literal["seed", "any"] = Field(
        "seed", description="first weights that are accepted: those of the run's seed and approved ones, or any"
    )
    approved_weights: tuple[str, ...] = Field((), description="SHA-256 digests of further first weights")
    max_weight_distance: float | None = Field(
        25.0,
        gt=0,
        description="largest distance of later weights from the last update, in lengths of the longest; null: any",
    )
    max_runs_per_month: int | None = Field(100, ge=1, description="number of runs in 30 days; null: any number")
    max_rounds_per_run: int | None = Field(1000, ge=1, description="rounds that a run may train; null: any number")
    max_rounds_per_month: int | None = Field(
        10_000, ge=1, description="rounds that all runs together may train in 30 days; null: any number"
    )
    max_validated_models_per_month: int | None = Field(
        1000, ge=1, description="models that all runs of 30 days may have validated; null: any number"
    )
    max_tested_models_per_run: int | None = Field(
        3, ge=1, description="models that a run may have tested; null: any number"
    )
    max_tested_models_per_month: int | None = Field(
        12, ge=1, description="models that all runs together may test in 30 days; null: any number"
    )
    max_rounds_per_day: int | None = Field(
        None, ge=1, description="rounds that all runs together may train in 24 hours; null: any number"
    )
    approval: Literal["none", "required"] = Field(
        "none", description="required: a new run waits until somebody at this site has approved its configuration"
    )
    approval_days: float = Field(7.0, gt=0, le=366, description="days that an approval holds")
    allowed_tasks: tuple[str, ...] = Field(
        (ANY,), description="data sets (data.dataset) or titles of tasks that a run may ask for, or '*'"
    )
    allowed_models: tuple[str, ...] = Field((ANY,), description="models that a run may train, or '*'")
    allowed_strategies: tuple[str, ...] = Field((ANY,), description="strategies that a run may use, or '*'")
    hours: tuple[str, ...] = Field(
        (), description="when requests are answered, such as 'mon-fri 20:00-06:00'; empty: always"
    )
    time_zone: str = Field("UTC", description="time zone of hours, such as Europe/Vienna")
    max_update_bytes: int | None = Field(None, ge=1, description="most bytes of an update; null: any number")
    max_update_norm: float | None = Field(
        None, gt=0, description="largest Euclidean distance of an update from the weights that were sent; null: any"
    )
    share_training_loss: bool = Field(False, description="send the mean loss of training patients after each round")
    share_resamples: bool = Field(False, description="send bootstrap resamples of counts, for confidence intervals")
    share_examples: bool = Field(False, description="send single examples with their reconstructions")
    private_only: bool = Field(False, description="refuse to train without differential privacy")
    max_epsilon: float | None = Field(
        None, gt=0, description="epsilon of all runs together; default: default_max_epsilon"
    )
    default_max_epsilon: float | None = Field(
        DEFAULT_MAX_EPSILON, gt=0, description="max_epsilon of private runs where it is not set; null: no limit"
    )
    max_delta: float = Field(1e-5, gt=0, lt=1, description="largest delta that a run may use")
    privacy_levels: tuple[Literal["record", "patient", "hospital"], ...] = Field(
        ("patient",), min_length=1, description="privacy levels that a run may use"
    )
    evaluation: Literal["any", "private"] = Field(
        "any",
        description="private: refuse to evaluate on validation and test patients without differential privacy "
        "(privacy.evaluation_epsilon)",
    )
    max_evaluation_epsilon: float | None = Field(
        4.5,
        gt=0,
        description="epsilon of all private evaluations together: of validation patients, and of test patients; "
        "null: no limit",
    )
    counts: Literal["noisy", "public"] = Field(
        "noisy", description="how numbers of people are reported under privacy: with noise (charged once) or exact"
    )
    counts_epsilon: float = Field(
        0.2, gt=0, description="epsilon of the noisy numbers, charged once to each split's own ledger"
    )
    several_splits: bool = Field(
        False, description="allow private runs that train on other patients than earlier private runs did"
    )
    plain_after_private: bool = Field(
        False, description="allow runs without privacy after a private run: its epsilon then promises nothing"
    )
    unprotected_validation: bool = Field(
        False, description="allow private runs to choose round and threshold on validation patients, without privacy"
    )
    server_noise: bool = Field(
        False, description="trust the server to add the noise of level hospital (privacy.noise_at=server)"
    )
    seeded_noise: bool = Field(False, description="allow noise that can be repeated: NOT PRIVATE, for tests only")

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            OpeningHours.from_text(text)
        return value

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("it is no time zone that this machine knows: use a name such as Europe/Vienna") from None
        return value

    @property
    def needs_privacy(self) -> bool:
        """Whether this site refuses to train without differential privacy."""
        return self.private_only or self.max_epsilon is not None

    @property
    def epsilon_limit(self) -> float | None:
        """Epsilon that all runs together may spend; None: no limit but each run's own."""
        return self.default_max_epsilon if self.max_epsilon is None else self.max_epsilon


SIMULATION_POLICY = SitePolicy(
    default_max_epsilon=None,
    max_evaluation_epsilon=None,
    split="requested",
    allowed_settings=("*",),
    min_training_patients=1,
    min_cell_patients=1,
    min_unit_patients=0,
    update_noise=0.0,
    record_noise=0.0,
    replaced_values=0.0,
    round_counts_to=1,
    count_noise=0.0,
    precise_questions=None,
    max_bins=4096,
    start_weights="any",
    max_weight_distance=None,
    max_runs_per_month=None,
    max_rounds_per_run=None,
    max_rounds_per_month=None,
    max_validated_models_per_month=None,
    max_tested_models_per_run=None,
    max_tested_models_per_month=None,
    share_training_loss=True,
    share_resamples=True,
    max_delta=0.5,
    privacy_levels=("record", "patient", "hospital"),
    server_noise=True,
    counts="public",
    several_splits=True,
    plain_after_private=True,
    seeded_noise=True,
    unprotected_validation=True,
)
"""The policy of simulated sites: the researcher holds all data anyway."""


def load_policy(path: Path | None) -> SitePolicy:
    """Read a policy file; None gives the strict defaults.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or has a wrong value.
    """
    if path is None:
        return SitePolicy()
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(getattr(error, "problem", "")).split())
        reason = f": {problem}" if problem else ""
        raise ConfigError(f"cannot read the policy {path}{reason}: give a YAML file of keys and values") from None
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(f"the policy {path} must hold keys and values, such as min_cell_patients: 5")
    return validate_settings(SitePolicy, raw or {}, str(path))
