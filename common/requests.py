"""The requests of the server to a site: one frozen type for each kind.

Every request carries the whole configuration, because a client may be a new process for every message. Each kind is
called by the phase that sends it (server/phases/) and the module that answers it (client/requests/).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from common.arrays import Weights
from common.config import RunConfig

RequestKind = Literal["handshake", "scaling", "train", "validate", "latent", "test", "domain_shift", "canary", "grow"]


@dataclass(frozen=True)
class Method:
    """What sites do for a strategy besides training the model that was sent.

    Attributes:
        local: names of the arrays that stay at the site (FedBN, FedPer).
        control: whether sites keep control variates (SCAFFOLD).
        pull: strength of the pull towards the global model while a personal model is trained (Ditto); None: no
            personal model.
    """

    local: tuple[str, ...] = ()
    control: bool = False
    pull: float | None = None

    @property
    def keeps_state(self) -> bool:
        """Whether a site must keep something from round to round."""
        return bool(self.local) or self.control or self.pull is not None


@dataclass(frozen=True)
class Request:
    """The fields of every request.

    Attributes:
        kind: the phase that sends it.
        config: the run.
    """

    kind: ClassVar[RequestKind]
    config: RunConfig


@dataclass(frozen=True)
class HandshakeRequest(Request):
    """Asks for a site's task, counts and device.

    Attributes:
        run_id: names the run in the site's state folder, 32 hex digits.
    """

    kind: ClassVar[RequestKind] = "handshake"
    run_id: str = ""


@dataclass(frozen=True)
class ScalingRequest(Request):
    """Asks for sums over the training inputs or, over a given scaling, for histograms of them.

    Attributes:
        base: the scaling (common/scaling.py) that places the bins of the histograms; empty: send sums.
        run_id: names the run in the site's state folder, 32 hex digits.
    """

    kind: ClassVar[RequestKind] = "scaling"
    base: bytes = b""
    run_id: str = ""


@dataclass(frozen=True)
class DomainShiftRequest(Request):
    """Asks for sums over the comparison columns or, over a given scaling, for a summary of them.

    Attributes:
        base: the scaling (common/scaling.py) with which the columns are summarised; empty: send sums.
        run_id: names the run in the site's state folder, 32 hex digits.
    """

    kind: ClassVar[RequestKind] = "domain_shift"
    base: bytes = b""
    run_id: str = ""


@dataclass(frozen=True)
class ModelRequest(Request):
    """The fields of every request about a model.

    Attributes:
        round: the round that trains, or whose model is evaluated; from 1.
        weights: the model's arrays by name.
        scaling: how inputs are scaled (common/scaling.py); empty: as the configuration says.
        method: what the strategy asks of the sites.
        run_id: names the run in the site's state folder, 32 hex digits.
        state_round: the round whose state at the site belongs to `weights`; 0: none yet.
        needed_rounds: further rounds whose state may still be asked for: of the best model so far, and of the rounds
            that a run may be resumed from. All others may be removed.
    """

    round: int = 0
    weights: Weights = field(default_factory=dict)
    scaling: bytes = b""
    method: Method = Method()
    run_id: str = ""
    state_round: int = 0
    needed_rounds: tuple[int, ...] = ()


@dataclass(frozen=True)
class ValidateRequest(ModelRequest):
    """Asks for counts of a model's predictions on the validation patients.

    Attributes:
        latent: statistics of training examples in latent space (common/latent.py); empty: none.
    """

    kind: ClassVar[RequestKind] = "validate"
    latent: bytes = b""


@dataclass(frozen=True)
class TrainRequest(ModelRequest):
    """Asks for a round of training.

    Attributes:
        class_counts: training examples of each class over all sites; empty: count the site's own.
        total: training examples over all sites; 0: the site's own.
        proximal: mu, the weight of FedProx's proximal term; 0: none.
        control: the server's control variates by name (SCAFFOLD).
        validation: the validation of the same weights, which came in the same message; None: training alone. It is a
            request of its own, answered before this one.
    """

    kind: ClassVar[RequestKind] = "train"
    class_counts: tuple[int, ...] = ()
    total: int = 0
    proximal: float = 0.0
    control: Weights = field(default_factory=dict)
    validation: ValidateRequest | None = None


@dataclass(frozen=True)
class GrowRequest(ModelRequest):
    """Asks for histograms of gradients at the open nodes of the trees that a round grows (common/trees.py).

    Attributes:
        depth: splits above these nodes; 0: the roots.
        class_counts: training examples of each class over all sites; empty: count the site's own.
        total: training examples over all sites; 0: the site's own.
    """

    kind: ClassVar[RequestKind] = "grow"
    depth: int = 0
    class_counts: tuple[int, ...] = ()
    total: int = 0


@dataclass(frozen=True)
class LatentRequest(ModelRequest):
    """Asks for sums over the training examples in the model's latent space."""

    kind: ClassVar[RequestKind] = "latent"


@dataclass(frozen=True)
class FinalTestRequest(ModelRequest):
    """Asks for figures and counts of the chosen model on the test patients.

    Attributes:
        latent: statistics of training examples in latent space (common/latent.py); empty: none.
        threshold: decision threshold, in log odds of the event; None: the likelier class is predicted.
    """

    kind: ClassVar[RequestKind] = "test"
    latent: bytes = b""
    threshold: float | None = None


@dataclass(frozen=True)
class CanaryRequest(ModelRequest):
    """Asks what would be refused of a run and, with weights, how long a step on random inputs takes.

    Attributes:
        proximal: mu, the weight of FedProx's proximal term; 0: none.
    """

    kind: ClassVar[RequestKind] = "canary"
    proximal: float = 0.0
