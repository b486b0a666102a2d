"""RunConfig: what the researcher asks for, read from YAML into a frozen, checked model.

A wrong key, type or value is named with its path and the nearest right key. The configuration never names a
path on a hospital's disk: `data.path` counts on the researcher's own machine (simulation) alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, model_validator

from common.anomaly import AnomalyConfig
from common.detection import DetectionConfig, detects
from common.errors import ConfigError
from common.parsing import apply, plain, yaml_of
from common.parsing import check as check
from common.privacy import PrivacyConfig as PrivacyConfig
from common.section import Section as Section
from common.shift import ShiftConfig

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class DataConfig(Section):
    """Which data set, and where it lies on the researcher's machine (simulation only)."""

    dataset: Name = "synthetic"
    path: str | None = Field(None, description="folder of the data; none: made or found by the data set itself")
    cache: str | None = Field(None, description="folder of prepared data; none: the user's cache folder")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the data set's own file")
    scaling: Literal["auto", "none", "standard", "site", "quantile"] = Field(
        "auto",
        description="of inputs: by the hospitals' merged means and deviations, by each site's own, or by merged ranks; "
        "auto: standard where inputs have units",
    )


class SitesConfig(Section):
    """How patients become hospitals, and how each hospital's patients are split.

    `scheme`: `natural` (as the data say), `even`, `size` (skewed sizes), `labels` (Dirichlet over patients).
    `split`: `patient` (patient-disjoint train, validation and test), `published` (the data set's published
    split between patients), `folds` (cross-validation: fold `fold` of `folds` is the test set, whole groups
    of patients where the data set knows them), or `beat-level` (LEAKY on purpose, for comparison with papers
    that do so).
    """

    scheme: Literal["natural", "even", "size", "labels"] = "natural"
    count: int = Field(4, ge=1, le=1000, description="number of hospitals; unused when scheme is natural")
    alpha: float = Field(0.5, gt=0, le=1000, description="Dirichlet concentration of scheme labels")
    skew: float = Field(1.0, ge=0, le=5, description="scheme size: hospital k gets a share of 1/k**skew")
    split: Literal["patient", "published", "folds", "beat-level"] = "patient"
    folds: int = Field(5, ge=2, le=100, description="parts of a split into folds")
    fold: int = Field(0, ge=0, le=99, description="the fold that is the test set, from 0")
    draw: int = Field(0, ge=0, le=10_000, description="another split of the same kind: seeds it")
    validation: float = Field(0.2, ge=0, lt=1, description="share of a hospital's training patients")
    test: float = Field(0.25, gt=0, lt=1, description="share of patients (beats if beat-level); not published")
    shared_person: Literal["drop", "keep"] = Field(
        "drop",
        description="a person on both sides of a published split: drop from training, or keep (a leak)",
    )
    limit: int | None = Field(None, ge=1, description="keep at most so many training examples a hospital")
    label_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="keep this share of a hospital's training examples, drawn by row, at least one: as if the others "
        "had no label",
    )
    external: tuple[str, ...] = Field(
        (), description="hospitals that are only tested: they train nothing, and nothing is chosen or scaled by them"
    )


class ModelConfig(Section):
    """A file of common/models, and its options."""

    name: Name = "cnn"
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingConfig(Section):
    """The local training loop."""

    epochs: int = Field(1, ge=1, le=10_000, description="local epochs a round")
    batch_size: int = Field(64, ge=1, le=65_536)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(0.001, gt=0, le=10)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    weight_decay: float = Field(0.01, ge=0, le=10)
    schedule: Literal["constant", "cosine"] = Field("cosine", description="over all rounds of the run")
    loss: Literal["cross_entropy", "weighted", "focal"] = "weighted"
    weight_power: float = Field(0.5, ge=0, le=1, description="class weight = (share of class)**-power")
    focal_gamma: float = Field(2.0, ge=0, le=10)
    clip_norm: float = Field(5.0, gt=0, description="largest gradient norm of a step")
    augment: float = Field(0.0, ge=0, le=1, description="strength of random scaling, shift and noise of inputs")
    patience: int = Field(0, ge=0, description="epochs without a better validation loss before stopping; 0: off")
    freeze: tuple[str, ...] = Field((), description="patterns of parameters that do not train, such as stem.*")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class StrategyConfig(Section):
    """A file of server/strategies, and its options."""

    name: Name = "fedavg"
    options: dict[str, Any] = Field(default_factory=dict)


class FederationConfig(Section):
    """Rounds, and what carries the messages."""

    rounds: int = Field(8, ge=1, le=100_000)
    strategy: StrategyConfig = StrategyConfig()
    engine: Literal["local", "ray", "federation"] = "local"
    workers: int = Field(0, ge=0, le=1024, description="parallel workers; 0: one a core")
    round_timeout: float = Field(3600.0, gt=0, description="seconds to wait for a round's replies")
    connect_timeout: float = Field(120.0, gt=0, description="seconds to wait for the sites to connect")
    min_sites: int = Field(1, ge=1, description="fewer answering sites than this end the run")
    weights: Literal["examples", "patients", "equal"] = Field(
        "examples", description="what a site's update weighs: its training examples, its patients, or all sites alike"
    )
    expect: tuple[str, ...] = Field((), description="names of the sites that must be there; empty: all that come")
    choose: Literal["best", "last"] = Field("best", description="the model of which round is kept")
    address: str | None = Field(None, description="HOST:PORT of a running server; none: start all here")
    ca: str | None = Field(None, description="certificate authority that signed the server's certificate")
    start: str | None = Field(
        None, description="run folder or .safetensors file, where the server runs: weights to start from"
    )
    start_except: tuple[str, ...] = Field(
        (), description="patterns of parameters that begin anew all the same, such as head.out.*"
    )


class SubgroupsConfig(Section):
    """Figures of groups of patients beside those of all, where the data have what tells the groups apart."""

    sex: bool = Field(False, description="female, male, unknown")
    age: tuple[float, ...] = Field((), description="years at which age bands begin, rising, such as [40, 65, 80]")
    columns: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="features of the task by name, each with the values at which bands begin; by a patient's median",
    )

    @model_validator(mode="after")
    def _check_bands(self) -> SubgroupsConfig:
        for name, edges in {
            "age": self.age,
            **{f"columns.{key}": value for key, value in self.columns.items()},
        }.items():
            if list(edges) != sorted(set(edges)) or (name != "age" and not edges):
                raise ValueError(f"subgroups.{name}: give rising values at which bands begin, such as [40, 65]")
        return self


class EvaluationConfig(Section):
    """What is measured on test patients, and how sure."""

    metric: Literal["macro_f1", "macro_auroc", "macro_auprc", "auroc", "auprc", "accuracy", "loss", "utility"] = Field(
        "macro_f1", description="chooses the round (on merged validation counts) and the worst site"
    )
    threshold: Literal["likelier", "f1", "youden", "utility", "false_alarms"] = Field(
        "likelier",
        description="two classes: call the event where it is likelier than not, or from the score on that is best "
        "on the sites' merged validation counts, or that gives the wanted false alarms there",
    )
    false_alarms: float = Field(
        0.05, gt=0, lt=1, description="threshold false_alarms: share of examples without the event that are called"
    )
    bootstrap: int = Field(1000, ge=0, le=100_000, description="resamples of patients for 95% intervals")
    bins: int = Field(1024, ge=16, le=4096, description="score histogram bins, spaced evenly in logit")
    keep_counts: bool = Field(
        False, description="keep the sites' counts in the run's folder, so that folds can be merged into one figure"
    )
    keep_resamples: bool = Field(
        True,
        description="keep each figure's resampled values, from which differences between models, and between runs "
        "(`wardround compare`), have their intervals",
    )
    operating: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.9, 0.95), description="the sensitivity at each such specificity is given, and the reverse"
    )
    explain: Literal["none", "occlusion", "integrated_gradients"] = Field(
        "none", description="tell which inputs move the score of the true class, as means over test patients"
    )
    domain_shift: bool = Field(
        False, description="measure how far the hospitals' inputs and labels lie apart (not in private runs)"
    )
    recalibrate: tuple[Literal["threshold", "platt", "temperature", "isotonic"], ...] = Field(
        ("threshold", "platt", "temperature", "isotonic"),
        description="what each alone wins back at a hospital, fitted on its validation patients (not in private runs)",
    )
    subgroups: SubgroupsConfig = SubgroupsConfig()
    without: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="further figures with these patients left out (if the site allows)"
    )


class BaselinesConfig(Section):
    """What to compare with, in simulation: the same training on one hospital alone, or on all rows pooled."""

    local: bool = True
    pooled: bool = True
    classical: tuple[Literal["logreg", "forest", "boosting"], ...] = Field(
        (), description="scikit-learn's models, trained as local and pooled say (experiments/classical.py)"
    )
    anomaly: AnomalyConfig = AnomalyConfig()


class ReportConfig(Section):
    """Where a run's figures go beside its folder (experiments/sinks.py)."""

    sinks: tuple[str, ...] = Field(
        (), description="mlflow:PATH (an SQLite file, or a folder for one), tensorboard:PATH; each needs its extra"
    )


class RunConfig(Section):
    """One run: one YAML file under experiments/."""

    name: Name = "run"
    title: str = Field("", max_length=200)
    seed: int = Field(1, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    sites: SitesConfig = SitesConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    detection: DetectionConfig = DetectionConfig()
    report: ReportConfig = ReportConfig()
    shift: dict[str, ShiftConfig] = Field(
        default_factory=dict, description="simulation only: how hospitals differ, by name; `*` is all of them"
    )

    @property
    def detecting(self) -> bool:
        """Whether the model reconstructs, so that the task is to tell the abnormal (common/detection.py)."""
        return detects(self.model.name)

    @property
    def chooses_by(self) -> str:
        """The metric that chooses the round; of a model that reconstructs its loss, which needs no abnormal example."""
        return "loss" if self.detecting else self.evaluation.metric

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_detection(cls, raw: Any) -> Any:
        """Give a model that reconstructs the metric and the threshold that suit it, where none is given."""
        model = raw.get("model") if isinstance(raw, Mapping) else None
        if not isinstance(model, Mapping) or not detects(str(model.get("name"))):
            return raw
        private = any((raw.get("privacy") or {}).get(key) is not None for key in ("epsilon", "sigma"))
        suits = {"metric": "auroc", "threshold": "likelier" if private else "false_alarms"}
        return {**raw, "evaluation": suits | dict(raw.get("evaluation") or {})}

    @model_validator(mode="after")
    def _check_together(self) -> RunConfig:
        if self.sites.split == "beat-level" and self.evaluation.without:
            raise ValueError("evaluation.without needs a split by patient, not sites.split=beat-level")
        if self.federation.start is None and (self.training.freeze or self.federation.start_except):
            key = "training.freeze" if self.training.freeze else "federation.start_except"
            raise ValueError(f"{key} needs federation.start: a run folder or .safetensors file to start from")
        if self.sites.fold >= self.sites.folds:
            raise ValueError(f"sites.fold: folds are numbered from 0 to {self.sites.folds - 1}")
        if self.shift and self.federation.engine == "federation":
            raise ValueError("shift: is for simulation only: use federation.engine local or ray, or leave it out")
        if self.detection != DetectionConfig() and not self.detecting:
            raise ValueError(f"detection: needs a model that reconstructs, such as autoencoder, not {self.model.name}")
        if self.privacy.on:
            self._check_privacy()
        return self

    def _check_privacy(self) -> None:
        """Refuse what would use patients' data beside the training that is charged."""
        privacy = self.privacy
        if (privacy.epsilon is None) == (privacy.sigma is None):
            raise ValueError(f"privacy.level={privacy.kind} needs one of privacy.epsilon and privacy.sigma")
        needs = {
            "training.loss=cross_entropy": self.training.loss == "cross_entropy"  # others weigh by counts of classes
            or self.detecting,
            "training.patience=0": self.training.patience == 0,
            "detection.score=reconstruction": self.detection.score == "reconstruction",  # the other needs sums
            "data.scaling=standard or none": self.data.scaling in ("none", "auto", "standard")
            or (privacy.kind == "hospital" and self.data.scaling == "site"),
            "a split by patient, not sites.split=beat-level": self.sites.split != "beat-level",
        }
        if privacy.validation == "none":
            needs |= {
                "federation.choose=last": self.federation.choose == "last",
                "evaluation.threshold=likelier": self.evaluation.threshold == "likelier",
            }
        if privacy.kind == "hospital":
            equal = self.federation.weights == "equal"
            needs |= {
                "federation.strategy=fedavg": self.federation.strategy.name == "fedavg",
                "privacy.weight_total": privacy.weight_total is not None,
                "privacy.weight_cap (or federation.weights=equal)": equal or privacy.weight_cap is not None,
                "privacy.noise_at=server for a privacy.hospital_sampling below 1": privacy.noise_at == "server"
                or privacy.hospital_sampling == 1,
            }
        for name, (low, high) in privacy.bounds.items():
            if not low < high:
                raise ValueError(f"privacy.bounds: the range of {name} must rise, as in [40, 180]")
        missing = [what for what, holds in needs.items() if not holds]
        if missing:
            raise ValueError(
                f"privacy needs {' and '.join(missing)}: anything else uses patients' data that no epsilon counts"
            )

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences that must stand beside every figure of this run."""
        found = []
        if self.sites.split == "beat-level":
            found.append(
                "LEAKY beat-level split: the same patients are in training and test, so every figure is "
                "too good to hold for a new patient. For comparison with papers that split so, nothing else."
            )
        if self.sites.split == "published" and self.sites.shared_person == "keep":
            found.append("LEAK kept on purpose: a person of the published split is in training and in test.")
        return tuple(found)

    @property
    def unprotected(self) -> str:
        """A sentence that must stand beside every figure, where a private run uses patients whom nothing protects."""
        if self.privacy.on and self.privacy.validation == "unprotected":
            return (
                "Validation patients are not protected: the round or the threshold was chosen on exact counts of "
                "their predictions. The epsilon is that of training patients alone."
            )
        return ""

    @property
    def not_private(self) -> str:
        """A sentence that must stand beside every figure, where noise can be repeated and so taken away."""
        if self.privacy.on and self.privacy.noise == "seeded":
            return "NOT PRIVATE: the noise comes from a known seed (privacy.noise=seeded), so its epsilons do not hold."
        return ""


def load(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides, check it.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}: see experiments/*.yaml for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    try:
        raw = yaml_of(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path} is not valid YAML{where}: {getattr(error, 'problem', error)}") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold keys and values, not a {type(raw).__name__}")
    raw.setdefault("name", path.stem.lower())
    return parse(raw, overrides, source=str(path))


def parse(raw: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "configuration") -> RunConfig:
    """Check a mapping against RunConfig, after applying `a.b=c` overrides.

    >>> parse({"seed": 7}, ["training.lr=0.01"]).training.lr
    0.01
    """
    merged = plain(raw)
    for override in overrides:
        apply(merged, override)
    return check(RunConfig, merged, source)


def to_json(config: RunConfig) -> str:
    """Return the flat form that crosses the wire."""
    return config.model_dump_json()


def from_json(text: str) -> RunConfig:
    """Read what `to_json` wrote.

    Raises:
        ConfigError: the text is another version's, or not one of these.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError:
        raise ConfigError("the configuration that came is not JSON") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"the configuration that came holds no keys and values, but a {type(raw).__name__}")
    return check(RunConfig, raw, "the configuration that came")
