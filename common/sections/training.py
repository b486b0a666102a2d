"""The sections model, training and federation of a configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from common.settings import Name, Section


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
    weight_cap: float | None = Field(
        None, gt=0, le=1, description="largest share of a round's weight that one site may have; none: no limit"
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
