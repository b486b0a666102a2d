"""RunConfig: a run as the researcher asks for it, read from YAML into a frozen, validated model.

Errors name a wrong key, type or value with its path and the nearest valid key. A configuration never names a path on a
hospital's disk: `data.path` applies to simulations on the researcher's own machine only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from common.detection import is_reconstruction_model
from common.errors import ConfigError
from common.old_names import replace_old_names
from common.sections.data import DataConfig, SitesConfig
from common.sections.detection import DetectionConfig
from common.sections.evaluation import BaselinesConfig, EvaluationConfig, ReportConfig
from common.sections.privacy import PrivacyConfig
from common.sections.shift import ShiftConfig
from common.sections.training import FederationConfig, ModelConfig, TrainingConfig
from common.settings import Name, Section, apply_override, copy_mappings, parse_yaml, validate_settings
from common.trees import grows_trees


class RunConfig(Section):
    """The configuration of one run, as one YAML file holds it."""

    name: Name = Field("run", description="name of the run folder; the file's name where it is not given")
    title: str = Field("", max_length=200, description="heading of the report; empty: the name")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of every random draw but privacy noise")
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
        default_factory=dict,
        description="simulation only: how hospitals differ, by hospital; `*` stands for all",
    )

    @property
    def detecting(self) -> bool:
        """Whether the model is an autoencoder, so that the task is anomaly detection (common/detection.py)."""
        return is_reconstruction_model(self.model.name)

    @property
    def selection_metric(self) -> str:
        """Metric that selects the round; for autoencoders the loss, which needs no abnormal example."""
        return "loss" if self.detecting else self.evaluation.metric

    @model_validator(mode="before")
    @classmethod
    def _set_evaluation_defaults(cls, raw: Any) -> Any:
        """Set the metric and the threshold of an autoencoder, and the threshold of a private run, if none is given."""
        if not isinstance(raw, Mapping):
            return raw
        model, privacy, wanted = (raw.get(key) or {} for key in ("model", "privacy", "evaluation"))
        if not all(isinstance(part, Mapping) for part in (model, privacy, wanted)):
            return raw
        private = any(privacy.get(key) is not None for key in ("epsilon", "sigma"))
        detecting = is_reconstruction_model(str(model.get("name")))
        defaults = {"metric": "auroc", "threshold": "likelier" if private else "false_alarms"} if detecting else {}
        if wanted.get("threshold", "auto") == "auto":
            wanted = {key: value for key, value in wanted.items() if key != "threshold"}
            if private or privacy.get("evaluation_epsilon") is not None:
                defaults = defaults | {"threshold": "likelier"}
        return {**raw, "evaluation": {**defaults, **wanted}} if defaults else raw

    @model_validator(mode="before")
    @classmethod
    def _set_tree_defaults(cls, raw: Any) -> Any:
        """Set the scaling of a model of trees where it is not given."""
        model = raw.get("model") if isinstance(raw, Mapping) else None
        if not isinstance(model, Mapping) or not grows_trees(str(model.get("name"))):
            return raw
        data, privacy = raw.get("data") or {}, raw.get("privacy") or {}
        if not isinstance(data, Mapping) or not isinstance(privacy, Mapping):
            return raw
        private = any(privacy.get(key) is not None for key in ("epsilon", "sigma"))
        return {**raw, "data": {"scaling": "standard" if private else "bins"} | dict(data)}

    @model_validator(mode="after")
    def _check_together(self) -> RunConfig:
        if self.sites.split == "beat-level" and self.evaluation.without:
            raise ValueError("evaluation.without needs a split by patient: sites.split is beat-level")
        if self.federation.start is None and (self.training.freeze or self.federation.start_except):
            key = "training.freeze" if self.training.freeze else "federation.start_except"
            raise ValueError(f"{key} needs federation.start: a run folder or .safetensors file to start from")
        if self.sites.fold >= self.sites.folds:
            raise ValueError(f"sites.fold: folds are numbered from 0 to {self.sites.folds - 1}")
        if self.shift and self.federation.engine == "federation" and self.federation.address is not None:
            raise ValueError("shift is for simulations only: leave out federation.address, or remove it")
        if self.detection != DetectionConfig() and not self.detecting:
            raise ValueError(f"detection needs an autoencoder, such as model.name=autoencoder, not {self.model.name}")
        wanted = self.federation
        for key, value in (("quorum", wanted.quorum), ("sites_per_round", wanted.sites_per_round)):
            if value is not None and value < wanted.min_sites:
                raise ValueError(f"federation.{key}: {value} is below federation.min_sites={wanted.min_sites}")
        self._check_trees()
        if self.privacy.on:
            self._check_privacy()
        if self.privacy.evaluation_on:
            self._check_private_evaluation()
        return self

    def _check_trees(self) -> None:
        """Refuse what does not go with trees that hospitals grow together, and their scaling with another model."""
        if not grows_trees(self.model.name):
            if self.data.scaling == "bins":
                raise ValueError("data.scaling=bins keeps missing values, which only trees take: use quantile")
            if self.evaluation.explain == "shap":
                raise ValueError("evaluation.explain=shap is for trees: use occlusion or integrated_gradients")
            return
        private = self.privacy.on
        scaling = "standard" if private else "bins"
        needs = {
            f"data.scaling={scaling}": self.data.scaling == scaling,
            "federation.strategy=fedavg, which is not used": self.federation.strategy.name == "fedavg",
            "no federation.start": self.federation.start is None,
            "training.loss=cross_entropy or weighted": self.training.loss != "focal",
            "evaluation.explain=shap, occlusion or none": self.evaluation.explain != "integrated_gradients",
            "model.name=forest with privacy": self.model.name == "forest" or not private,
            "privacy.level=patient or record": not private or self.privacy.kind in ("patient", "record"),
        }
        if missing := [what for what, holds in needs.items() if not holds]:
            raise ValueError(f"model.name={self.model.name} needs {' and '.join(missing)}")

    def _check_privacy(self) -> None:
        """Refuse settings that use patients' data outside of the training that epsilon accounts for."""
        privacy = self.privacy
        if (privacy.epsilon is None) == (privacy.sigma is None):
            raise ValueError(f"privacy.level={privacy.kind} needs one of privacy.epsilon and privacy.sigma")
        needs = {
            "training.loss=cross_entropy": self.training.loss == "cross_entropy"  # other losses use class counts
            or self.detecting,
            "training.patience=0": self.training.patience == 0,
            "detection.score=reconstruction": self.detection.score
            == "reconstruction",  # the others need sums over examples
            "data.scaling=standard or none": self.data.scaling in ("none", "auto", "standard")
            or (privacy.kind == "hospital" and self.data.scaling == "site"),
            "a split by patient, not sites.split=beat-level": self.sites.split != "beat-level",
        }
        if privacy.validation == "none" and not privacy.evaluation_on:
            needs |= {
                "federation.choose=last": self.federation.choose == "last",
                "evaluation.threshold=likelier": self.evaluation.threshold == "likelier",
            }
        if privacy.kind == "hospital":
            equal, wanted_sites = self.federation.weights == "equal", self.federation.sites_per_round
            needs |= {
                "federation.strategy=fedavg": self.federation.strategy.name == "fedavg",
                "privacy.weight_total": privacy.weight_total is not None,
                "privacy.weight_cap (or federation.weights=equal)": equal or privacy.weight_cap is not None,
                "privacy.weight_cap instead of federation.weight_cap": self.federation.weight_cap is None,
                "privacy.hospital_sampling instead of federation.sites_per_round": wanted_sites is None,
                "privacy.noise_at=server for a privacy.hospital_sampling below 1": privacy.noise_at == "server"
                or privacy.hospital_sampling == 1,
            }
        for name, (low, high) in privacy.bounds.items():
            if not low < high:
                raise ValueError(f"privacy.bounds: the range of {name} must be [low, high], as in [40, 180]")
        missing = [what for what, holds in needs.items() if not holds]
        if missing:
            raise ValueError(
                f"privacy needs {' and '.join(missing)}: anything else uses patients' data that epsilon does not cover"
            )

    def _check_private_evaluation(self) -> None:
        """Refuse settings that use validation or test patients in other ways than by counts with noise."""
        evaluation = self.evaluation
        needs = {
            "a classifier: an autoencoder's results rest on reconstruction errors": not self.detecting,
            "privacy.validation=none: validation patients are counted with noise": self.privacy.validation == "none",
            "training.patience=0": self.training.patience == 0,  # it stops on exact losses of validation patients
            "evaluation.explain=none": evaluation.explain == "none",
            "no evaluation.without": not evaluation.without,
            "another evaluation.metric than utility or loss": evaluation.metric not in ("utility", "loss"),
            "another evaluation.threshold than utility": evaluation.threshold != "utility",
            "a split by patient, not sites.split=beat-level": self.sites.split != "beat-level",
        }
        if missing := [what for what, holds in needs.items() if not holds]:
            raise ValueError(
                f"privacy.evaluation_epsilon needs {' and '.join(missing)}: anything else uses validation or test "
                "patients' data that it does not cover"
            )

    @property
    def notices(self) -> tuple[str, ...]:
        """Warnings that must accompany every figure of this run."""
        notices = []
        if self.sites.split == "beat-level":
            notices.append(
                "LEAKY beat-level split: the same patients are in training and test, so every figure is "
                "too optimistic for new patients. Use it only to compare with papers that split in this way."
            )
        if self.sites.split == "published" and self.sites.shared_person == "keep":
            notices.append("LEAK kept on purpose: a person of the published split is in training and in test.")
        return tuple(notices)

    @property
    def unprotected_notice(self) -> str:
        """A warning that must accompany every figure of a private run that uses unprotected validation patients."""
        if self.privacy.on and self.privacy.validation == "unprotected":
            return (
                "Validation patients are not protected: the round or the threshold was chosen on exact counts of "
                "their predictions. The epsilon covers training patients only."
            )
        return ""

    @property
    def not_private_notice(self) -> str:
        """A warning that must accompany every figure of a run whose noise can be repeated and so removed."""
        if (self.privacy.on or self.privacy.evaluation_on) and self.privacy.noise == "seeded":
            return "NOT PRIVATE: the noise comes from a known seed (privacy.noise=seeded), so its epsilons do not hold."
        return ""


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply `a.b=c` overrides, and validate the result.

    Raises:
        ConfigError: the file cannot be read, or a key or value is invalid; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}: see experiments/*.yaml for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    try:
        raw = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"{path} is not valid YAML{where}: {problem}") from None
    if raw is None or raw == {}:
        raise ConfigError(f"{path} is empty: it must hold keys and values, as experiments/synthetic.yaml does")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold keys and values, not a {type(raw).__name__}")
    raw = replace_old_names("config", raw, version=1)
    raw.setdefault("name", path.stem.lower())
    return parse_config(raw, overrides, source=str(path))


def parse_config(raw: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "configuration") -> RunConfig:
    """Validate a mapping as a RunConfig, after applying `a.b=c` overrides.

    >>> parse_config({"seed": 7}, ["training.lr=0.01"]).training.lr
    0.01
    """
    merged = copy_mappings(raw)
    for override in overrides:
        apply_override(merged, override)
    return validate_settings(RunConfig, merged, source)


def config_to_json(config: RunConfig) -> str:
    """Return a configuration as it crosses the wire."""
    return config.model_dump_json()


FREE_KEYS: dict[str, tuple[str, ...]] = {
    "evaluation": ("bins",),  # the server lowers them to what the hospitals send; an approval refuses more
    "federation": ("address", "ca", "workers", "round_timeout", "connect_timeout", "approval_timeout"),
}
"""Keys by section that a fingerprint leaves out: they change nothing that a hospital computes or sends."""


def fingerprint_config(config: RunConfig) -> str:
    """Return a digest (64 hex digits) of the settings that matter to a hospital, so not of the title, for example.

    >>> one, other = parse_config({"seed": 7}), parse_config({"seed": 7, "title": "Autumn"})
    >>> fingerprint_config(one) == fingerprint_config(other) != fingerprint_config(parse_config({"seed": 8}))
    True
    """
    left_out: dict[str, Any] = {"title": True, "report": True, **{part: set(keys) for part, keys in FREE_KEYS.items()}}
    content = config.model_dump(mode="json", exclude=left_out)
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache(maxsize=64)
def config_from_json(text: str) -> RunConfig:
    """Read what `config_to_json` wrote; cached, because every message of a run carries the same text.

    Raises:
        ConfigError: the text was written by another version, or is no configuration.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError:
        raise ConfigError("the received configuration is not JSON") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"the received configuration holds no keys and values, but a {type(raw).__name__}")
    return validate_settings(RunConfig, raw, "the received configuration")
