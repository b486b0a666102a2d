"""Checkpoints: all that a run needs to go on after a complete round, one file a round in the run folder.

`checkpoints/round-00012.safetensors` holds the merged weights, the strategy's state, the validation counts of the
best round, the inputs' scaling and, as JSON, everything else. It is written whole or not at all, with a digest of its
content, after the round's line in rounds.jsonl or, where the round is validated with the next one's training, before.
The last `federation.checkpoints` are kept, with those of the rounds that were best in them. Round 0 stands for a run
whose sites have answered the handshake, or sent their sums.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from common.arrays import Weights
from common.config import RunConfig, config_to_json
from common.errors import ConfigError, DataError
from common.files import write_arrays
from common.metrics.counts import Counts
from common.metrics.counts_file import name_count_arrays, read_count_arrays
from common.metrics.noisy_counts import NoisyCounts
from common.metrics.table_names import ALL_PATIENTS
from common.provenance import read_release
from common.reports import HandshakeReport, PrivacySpent
from common.run_folder import RunFolder
from common.settings import list_changed_keys
from server.outcome import SiteCounts
from server.strategy_state import StrategyState

FORMAT = "wardround.checkpoint/2"
NOISY = "\t"
"""Start of the names of noisy counts among those of counts, which start with a site's name."""
WEIGHTS, STRATEGY, COUNTS, SCALING = "weights/", "strategy/", "counts/", "scaling"
"""Prefixes of the arrays' names, and the name of the scaling's bytes."""


@dataclass(frozen=True)
class Checkpoint:
    """A run after a round whose updates are merged.

    Attributes:
        round: the round; 0: before the first.
        config: the configuration as it crosses the wire.
        run_id: names the run in the sites' state folders.
        reports: what each site stated in the handshake.
        weights: the merged weights; empty at round 0.
        strategy: the strategy's state.
        scaling: how inputs are scaled (common/scaling.py); empty: as the configuration says.
        scaled: whether the scaling phase is over.
        chosen: the best round so far.
        validation: the best round's counts by site.
        spent: where evaluation is private, what its ledgers were charged, by split and site.
        progress: the JSON-ready rest: what `Outcome` holds of past rounds.
        release: the version of this program that wrote it.
    """

    round: int
    config: str
    run_id: str
    reports: Mapping[str, HandshakeReport]
    weights: Weights = field(default_factory=dict)
    strategy: StrategyState = field(default_factory=StrategyState)
    scaling: bytes = b""
    scaled: bool = False
    chosen: int = 0
    validation: Mapping[str, SiteCounts] = field(default_factory=dict)
    spent: Mapping[str, Mapping[str, PrivacySpent]] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    release: str = field(default_factory=read_release)


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        run: the run folder.
        keep: how many of the last are kept.
        durable: whether each is flushed to the disk, to survive a power cut.
    """

    def __init__(self, run: Path, keep: int = 2, *, durable: bool = False) -> None:
        self.folder, self._keep, self._durable = RunFolder(run).checkpoints, keep, durable
        self._chosen: dict[int, int] = {}
        self._texts: dict[str, tuple[HandshakeReport, str]] = {}
        self.damaged: list[Path] = []

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are no longer needed."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        arrays, about = _to_parts(checkpoint, self._describe_reports(checkpoint.reports))
        text = json.dumps(about)
        notes = {"format": FORMAT, "about": text, "digest": _digest(text, arrays)}
        write_arrays(self._path(checkpoint.round), arrays, notes, durable=self._durable)
        self._chosen[checkpoint.round] = checkpoint.chosen
        needed = self.needed_rounds()
        for number in self.rounds():
            if number not in needed:
                self._path(number).unlink(missing_ok=True)
                self._chosen.pop(number, None)

    def _describe_reports(self, reports: Mapping[str, HandshakeReport]) -> dict[str, str]:
        """Return the reports as JSON; most are those of the round before, and each lists every input of the task."""
        for site, report in reports.items():
            if site not in self._texts or self._texts[site][0] is not report:
                self._texts[site] = report, report.to_json()
        return {site: self._texts[site][1] for site in reports}

    def needed_rounds(self) -> set[int]:
        """Return the rounds that the run may be resumed from, and those that were best in them; 0 is no round."""
        last = sorted(self._chosen)[-self._keep :]
        return {number for each in last for number in (each, self._chosen[each])} | ({0} if 0 in last else set())

    def rounds(self) -> list[int]:
        """Return the rounds that have a file, ascending."""
        matches = (re.fullmatch(r"round-(\d{5,})\.safetensors", path.name) for path in self.folder.glob("round-*"))
        return sorted(int(match[1]) for match in matches if match)

    def read_newest(self, config: RunConfig) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, or None if there is none.

        Checkpoints that cannot be read are added to `damaged`.

        Raises:
            DataError: there are checkpoints, but none can be read.
            ConfigError: they are of another version or another configuration.
        """
        numbers = self.rounds()
        readable: dict[int, Checkpoint] = {}
        for number in numbers:
            try:
                readable[number] = self.read(number)
            except DataError:
                self.damaged.append(self._path(number))
        whole = {number: each.chosen for number, each in readable.items() if each.chosen in readable or not each.chosen}
        newest = readable[max(whole)] if whole else None
        self._chosen = whole
        if newest is None and numbers:
            raise DataError(f"no checkpoint in {self.folder} can be read: restore one, or start the run anew")
        if newest is not None:
            check_same_run(newest, config, self.folder.parent)
        return newest

    def read(self, number: int) -> Checkpoint:
        """Return the checkpoint of a round.

        Raises:
            DataError: there is none, or it is damaged.
            ConfigError: it is of another version.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(number)
        try:
            with safe_open(path, framework="np") as file:
                notes = dict(file.metadata() or {})
                if notes["format"] != FORMAT:
                    raise ConfigError(
                        f"{path.parent.parent} was begun by another version ({notes['format']}, this one reads "
                        f"{FORMAT}): resume it there, or start the run anew"
                    )
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if notes["digest"] != _digest(notes["about"], arrays):
                raise DataError(f"{path} is damaged")
            return _from_parts(json.loads(notes["about"]), arrays)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, ValidationError):
            raise DataError(f"{path} is damaged or missing") from None

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:05d}.safetensors"


def check_same_run(checkpoint: Checkpoint, config: RunConfig, folder: Path) -> None:
    """Refuse to go on with another version or configuration than a run began with.

    Raises:
        ConfigError: names both versions, or the keys that differ.
    """
    release = read_release()
    if checkpoint.release != release:
        raise ConfigError(
            f"{folder} was begun by Wardround {checkpoint.release}, this is {release}: resume it with the same version"
        )
    if changed := list_changed_keys(json.loads(checkpoint.config), json.loads(config_to_json(config))):
        raise ConfigError(
            f"{folder} was begun with another {', '.join(changed)}: a run keeps its configuration; start another run"
        )


def _to_parts(checkpoint: Checkpoint, reports: Mapping[str, str]) -> tuple[Weights, dict[str, object]]:
    """Return a checkpoint's arrays by name, and all else JSON-ready; `reports`: its reports as JSON."""
    counts, deviations = _name_counts(checkpoint.validation)
    parts = ((WEIGHTS, checkpoint.weights), (STRATEGY, checkpoint.strategy.arrays), (COUNTS, counts))
    arrays = {prefix + name: np.asarray(value) for prefix, group in parts for name, value in group.items()}
    if checkpoint.scaling:
        arrays[SCALING] = np.frombuffer(checkpoint.scaling, np.uint8)
    about = {
        "round": checkpoint.round,
        "config": checkpoint.config,
        "run_id": checkpoint.run_id,
        "reports": dict(reports),
        "order": list(checkpoint.weights),  # the file sorts its arrays, a model does not
        "strategy": checkpoint.strategy.values,
        "scaled": checkpoint.scaled,
        "chosen": checkpoint.chosen,
        "validation": list(checkpoint.validation),
        "deviations": deviations,
        "spent": {
            split: {site: item.to_json() for site, item in by_site.items()}
            for split, by_site in checkpoint.spent.items()
        },
        "progress": dict(checkpoint.progress),
        "release": checkpoint.release,
    }
    return arrays, about


def _from_parts(about: Mapping[str, Any], arrays: Weights) -> Checkpoint:
    def take(prefix: str) -> Weights:
        return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

    weights, counts = take(WEIGHTS), _read_counts(take(COUNTS), about["deviations"])
    return Checkpoint(
        round=about["round"],
        config=about["config"],
        run_id=about["run_id"],
        reports={
            site: HandshakeReport.model_validate_json(text, strict=True) for site, text in about["reports"].items()
        },
        weights={name: weights[name] for name in about["order"]},
        strategy=StrategyState(about["strategy"], take(STRATEGY)),
        scaling=arrays[SCALING].tobytes() if SCALING in arrays else b"",
        scaled=about["scaled"],
        chosen=about["chosen"],
        validation={site: counts[site] for site in about["validation"]},
        spent={
            split: {site: PrivacySpent.model_validate_json(text, strict=True) for site, text in by_site.items()}
            for split, by_site in about["spent"].items()
        },
        progress=about["progress"],
        release=about["release"],
    )


def _name_counts(validation: Mapping[str, SiteCounts]) -> tuple[Weights, dict[str, list[float]]]:
    """Return the arrays of sites' counts by name, and of noisy ones the deviations of their noise by site."""
    exact = {site: {ALL_PATIENTS: each} for site, each in validation.items() if isinstance(each, Counts)}
    arrays: Weights = dict(name_count_arrays(exact))
    deviations = {}
    for site, each in validation.items():
        if isinstance(each, NoisyCounts):
            arrays |= {f"{NOISY}{site}\tconfusion": each.confusion, f"{NOISY}{site}\tscores": each.scores}
            deviations[site] = [each.confusion_deviation, each.scores_deviation]
    return arrays, deviations


def _read_counts(arrays: Weights, deviations: Mapping[str, list[float]]) -> dict[str, SiteCounts]:
    """Return the counts by site that `_name_counts` named."""
    exact = read_count_arrays({name: value for name, value in arrays.items() if not name.startswith(NOISY)})
    counts: dict[str, SiteCounts] = {site: tables[ALL_PATIENTS] for site, tables in exact.items()}
    for site, (cell, bin_) in deviations.items():
        confusion, scores = (arrays[f"{NOISY}{site}\t{part}"] for part in ("confusion", "scores"))
        counts[site] = NoisyCounts(confusion, scores, cell, bin_)
    return counts


def _digest(text: str, arrays: Weights) -> str:
    """Return a digest of a checkpoint's content: the file's own format notices only some kinds of damage."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        value = np.asarray(arrays[name], order="C")
        digest.update(f"{name}\x1f{value.dtype}\x1f{value.shape}\x1f".encode() + value.tobytes())
    return digest.hexdigest()
