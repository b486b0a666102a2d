"""The server's half of privacy.level=hospital (client/privacy/hospital_level.py): contributions are added up, not
averaged.

    new weights = weights + (sum of contributions + noise) / (probability that a hospital takes part * weight_total)

The divisor is public and the same whoever answers: the sum's sensitivity, cap * C, is all that counts. Noise is added
here if `privacy.noise_at=server`, once a round, with the largest sigma that a site says it was charged for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy

from common import messages, noise
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError
from common.replies import TrainReply
from common.seeds import seed_for
from server import strategies
from server.strategies._flower import EVERY_SITE

MAX_SIGMA = 1e4
"""Largest noise multiplier that a site may state: more would leave nothing of the sum."""


class _Summed(FedAvg):
    def __init__(self, config: RunConfig) -> None:
        super().__init__(**EVERY_SITE)
        self.config = config
        self.model: Weights = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.model = messages.unpack_weights(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        answers = [messages.read_update(answer.content) for answer in replies]
        if not answers:
            return None, None
        privacy = self.config.privacy
        names = list(self.model)
        flat = [np.concatenate([each.weights[name].astype(np.float64).ravel() for name in names]) for each in answers]
        total = np.sum(flat, axis=0)
        if privacy.noise_at == "server":
            charged = [each.report.privacy.sigma for each in answers if each.report.privacy]
            secure = privacy.noise == "secure"
            seed = seed_for(self.config.seed, "server", server_round, "hospital")
            source: noise.RandomSource = noise.SecureSource() if secure else noise.SeededSource(seed)
            total = noise.add_noise(total, max(charged) * privacy.site_weight_cap * privacy.clip, source)
        assert privacy.weight_total is not None
        total /= privacy.participation * privacy.weight_total
        parts = np.split(total, np.cumsum([self.model[name].size for name in names])[:-1])
        moved = {
            name: (self.model[name] + part.reshape(self.model[name].shape)).astype(self.model[name].dtype)
            for name, part in zip(names, parts, strict=True)
        }
        return messages.pack_weights(moved), None


def build_summing_strategy(config: RunConfig) -> Strategy:
    """Return FedAvg that adds up contributions."""
    return _Summed(config)


def choose_strategy(config: RunConfig) -> Strategy:
    """Return a new strategy of a run: the configured one, or at privacy.level=hospital FedAvg that adds up.

    Raises:
        ConfigError: as `server.strategies.build_strategy`.
    """
    if config.privacy.kind == "hospital":
        return build_summing_strategy(config)
    return strategies.build_strategy(config.federation.strategy)


def find_contribution_fault(reply: TrainReply, config: RunConfig) -> str:
    """Return why a contribution must not go into the sum that the server adds noise to, or "".

    The privacy guarantee rests on two things: the contribution's norm is within the limit, and the site states the
    noise that it was charged for, which the server then adds.
    """
    privacy = config.privacy
    if privacy.kind != "hospital" or privacy.noise_at != "server":
        return ""
    if reply.report.privacy is None or not 0 < reply.report.privacy.sigma <= MAX_SIGMA:
        return "it does not state what noise it was charged for"
    norm = math.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in reply.weights.values()))
    limit = privacy.site_weight_cap * privacy.clip
    return f"its contribution has norm {norm:.4g}, above {limit:g}" if norm > limit * (1 + 1e-6) else ""


def check_delta(config: RunConfig, sites: int) -> None:
    """Refuse a delta that does not fit the number of hospitals.

    Raises:
        ConfigError: delta is so large that one hospital could be disclosed.
    """
    if config.privacy.kind == "hospital" and config.privacy.delta >= 1 / max(sites, 1):
        raise ConfigError(f"privacy.delta={config.privacy.delta:g} must be below 1 / {sites} hospitals")
