"""The sections model, training and federation of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from common.settings import Name, Section


class ModelConfig(Section):
    """The model: one of common/models, of an installed package, or in a file, and its options."""

    name: Name = Field("cnn", description="name of the model")
    file: str | None = Field(
        None, max_length=4096, description="a Python file with the model instead, as ./mine.py; only in a simulation"
    )
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the file; set by the run")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the model")


class TrainingConfig(Section):
    """How each site trains locally."""

    epochs: int = Field(1, ge=1, le=10_000, description="local epochs per round")
    batch_size: int = Field(
        64, ge=1, le=65_536, description="examples per step; private training draws its own batches"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimizer, started anew each round")
    lr: float = Field(0.001, gt=0, le=10, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="optimizer sgd: momentum")
    weight_decay: float = Field(0.01, ge=0, le=10, description="weight decay of the optimizer")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="of the learning rate, over all rounds of the run"
    )
    loss: Literal["cross_entropy", "weighted", "focal"] = Field(
        "weighted", description="loss of classifiers; weighted: cross-entropy with class weights"
    )
    weight_power: float = Field(
        0.5, ge=0, le=1, description="loss weighted: class weight = (share of the class)**-weight_power"
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=10, description="loss focal: exponent that reduces the weight of easy examples"
    )
    clip_norm: float = Field(5.0, gt=0, description="gradients are clipped to this norm at each step")
    augment: float = Field(0.0, ge=0, le=1, description="strength of random scaling, shifts and noise of the inputs")
    patience: int = Field(0, ge=0, description="epochs without a better validation loss before stopping; 0: off")
    freeze: tuple[str, ...] = Field((), description="patterns of parameters that are not trained, such as stem.*")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")


class StrategyConfig(Section):
    """The strategy: a file of server/strategies, and its options."""

    name: Name = Field("fedavg", description="name of the strategy")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the strategy")


AUTO_ROUNDS, AUTO_PATIENCE = 100, 10
"""The most rounds and the patience of `federation.rounds: auto`."""


class FederationConfig(Section):
    """Rounds, the engine that carries the messages, and the starting weights."""

    rounds: int = Field(
        8,
        ge=1,
        le=100_000,
        description="rounds of the federation; with `patience`, the most there are. auto: at most "
        f"{AUTO_ROUNDS}, with a patience of {AUTO_PATIENCE} where none is given",
    )
    patience: int = Field(
        0,
        ge=0,
        le=100_000,
        description="rounds without a better merged validation after which the federation, and each baseline, stops; "
        "the best round is kept. 0: it trains all rounds",
    )
    strategy: StrategyConfig = StrategyConfig()
    engine: Literal["local", "ray", "federation"] = Field(
        "local", description="local: workers on this machine; ray: Flower's simulation; federation: server and nodes"
    )
    workers: int = Field(0, ge=0, le=1024, description="engine local: parallel workers; 0: one per core")
    stacked: bool = Field(
        False,
        description="engine local: train small models (logreg and mlp) of several sites in one step: faster with many "
        "sites; weights differ from those of training alone, and of other engines, in their last digits",
    )
    round_timeout: float = Field(3600.0, gt=0, description="seconds to wait for the replies of a round")
    connect_timeout: float = Field(120.0, gt=0, description="seconds to wait for sites to connect")
    approval_timeout: float = Field(
        0.0,
        ge=0,
        description="seconds to wait before the first round for hospitals that have to approve the run; 0: go on "
        "without them",
    )
    min_sites: int = Field(1, ge=1, description="the run ends when fewer sites than this answer")
    quorum: int | None = Field(
        None,
        ge=1,
        description="usable answers after which a round waits only `quorum_seconds` longer for the other sites; none: "
        "it waits for every site, up to `round_timeout`",
    )
    quorum_seconds: float = Field(60.0, ge=0, description="with a quorum: seconds that slower sites get")
    sites_per_round: int | None = Field(
        None, ge=1, description="sites that train in a round, drawn anew for each from the seed; none: all"
    )
    on_lost: Literal["auto", "continue", "stop"] = Field(
        "auto",
        description="when a site gives no usable reply: continue: go on without it for that round; stop: end the run, "
        "which can be resumed; auto: stop where sites are simulated, continue with hospitals",
    )
    checkpoints: int = Field(
        2, ge=1, le=1000, description="complete rounds that are kept on disk to resume the run from, besides the best"
    )
    weights: Literal["examples", "patients", "equal"] = Field(
        "examples",
        description="weight of a site's update: its training examples, its training patients, or the same for all",
    )
    weight_cap: float | None = Field(
        None, gt=0, le=1, description="largest share of a round's weight that one site may have; none: no limit"
    )
    site_policy: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of a hospital's policy that are stricter for this run, such as max_epsilon; a "
        "looser value than a hospital's own changes nothing there",
    )
    expect: tuple[str, ...] = Field((), description="names of the sites that must take part; empty: all that connect")
    choose: Literal["best", "last"] = Field(
        "best", description="keep the model of the best round on validation patients, or of the last"
    )
    address: str | None = Field(
        None, description="HOST:PORT of a running server; none: start server and sites on this machine"
    )
    ca: str | None = Field(None, description="certificate authority that signed the server's certificate")
    start: str | None = Field(
        None, description="weights to start from: a run folder or a .safetensors file on the server's machine"
    )
    start_except: tuple[str, ...] = Field(
        (), description="patterns of parameters that keep their random initial values, such as head.out.*"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_auto(cls, raw: Any) -> Any:
        """Replace `rounds: auto` by the most rounds and the patience that it stands for."""
        if not isinstance(raw, Mapping) or raw.get("rounds") != "auto":
            return raw
        if raw.get("patience") == 0:
            raise ValueError("rounds=auto needs a patience of at least 1: give one, or a number of rounds")
        return {"patience": AUTO_PATIENCE, **raw, "rounds": AUTO_ROUNDS}

    @model_validator(mode="after")
    def _check_patience(self) -> FederationConfig:
        if self.patience and self.choose != "best":
            raise ValueError("patience (or rounds=auto) needs choose=best: validation decides when to stop")
        return self

    @model_validator(mode="after")
    def _check_stacked(self) -> FederationConfig:
        if self.stacked and self.engine != "local":
            raise ValueError(f"stacked needs engine=local: the sites of engine={self.engine} are in several processes")
        return self

    @property
    def carrier(self) -> str:
        """The engine as the run and its report name it, with what decides the last digits of weights."""
        return f"{self.engine}, small models stacked" if self.stacked else self.engine

    @property
    def simulated(self) -> bool:
        """Whether the sites are simulated on this machine, where the researcher holds all data."""
        return self.engine != "federation" or self.address is None

    @property
    def stops_on_loss(self) -> bool:
        """Whether the run ends when a site gives no usable reply."""
        return self.on_lost == "stop" or (self.on_lost == "auto" and self.simulated and self.quorum is None)
