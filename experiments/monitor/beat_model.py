"""A model that is ready to score beats of many patients at once, whatever computes it; nothing here loads torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from common.metrics.counts import class_log_odds
from common.task import Task
from sites.ecg import beats as view
from sites.ecg.streaming.stream import StreamedBeat, stack_beats
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats
from sites.unlabelled.recordings import InputForm

VENTRICULAR = ("V", "abnormal")
"""Names of the class whose runs raise an alarm; of several, the first that the model has."""
Floats = npt.NDArray[np.float32]
ComputeLogits = Callable[[Floats, Floats], npt.NDArray[np.floating]]
"""From unscaled signals `(beats, channels, samples)` and features to logits `(beats, classes)`."""


@dataclass(frozen=True)
class BeatScores:
    """Scores of some beats.

    Attributes:
        names: the predicted class of each, "" where the model's output is no number.
        alarm: probability of a ventricular (or abnormal) beat, 0 where the output is no number.
        probability: `(beats, classes)`.
        columns: the model's features `(beats, features)`, before scaling.
        unusual: from 0 to 1, a detector's score of each; it finds those over 0.5 unusual. NaN: there is no score.
    """

    names: tuple[str, ...]
    alarm: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    columns: Floats
    unusual: npt.NDArray[np.float64]


@dataclass(frozen=True)
class AnomalyDetector:
    """A detector of unusual beats.

    Attributes:
        name: the run, or the file of the forest.
        form: how beats become its inputs.
        columns: names of its features.
        compute: from unscaled signals `(beats, channels, samples)` and features to scores `(beats,)`.
    """

    name: str
    form: InputForm
    columns: tuple[str, ...]
    compute: Callable[[Floats, Floats], npt.NDArray[np.float64]]

    def check_form(self, other: InputForm, run: str) -> None:
        """Check that the beats of a run's model, in some form, are those of the detector.

        Raises:
            UsageError: they are others.
        """
        own = self.form
        if own.leads != other.leads or own.shape not in (0, other.shape):
            raise UsageError(
                f"--anomaly {self.name}: it takes other leads or measures of waves than the model {run}: "
                "use one that was trained with the same data.options"
            )

    def score_cut(self, cut: CausalBeats) -> npt.NDArray[np.float64]:
        """Return the scores of beats that are cut already; NaN where there is none."""
        x, columns = build_inputs(cut, self.form, len(self.columns))
        scores = np.asarray(self.compute(x, columns), dtype=np.float64)
        return np.where(np.isfinite(scores), scores, np.nan)


@dataclass(frozen=True)
class BeatModel:
    """A model of beats.

    Attributes:
        run: the run that trained it.
        task: what it predicts from which inputs.
        form: how beats become its inputs.
        causal: whether it was trained on beats described by earlier beats only.
        compute_logits: computes it.
        threshold: of two classes, the log odds from which the second is predicted; None: the likelier class is.
        detector: finds beats unusual, whatever their class; None: nothing does.
    """

    run: str
    task: Task
    form: InputForm
    causal: bool
    compute_logits: ComputeLogits
    threshold: float | None = None
    detector: AnomalyDetector | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.task.classes)

    @property
    def alarm_class(self) -> int:
        """Index of the class whose probability is `BeatScores.alarm`."""
        known = [self.classes.index(name) for name in VENTRICULAR if name in self.classes]
        return known[0] if known else len(self.classes) - 1

    def choose_leads(self, leads: Sequence[str]) -> list[int]:
        """Return the indices of the leads that the model takes; fewer if a device has fewer."""
        wanted = self.form.leads
        if isinstance(wanted, tuple):
            named = ["MLII" if lead == "II" and "II" not in leads else lead for lead in wanted]
            return [leads.index(lead) for lead in named if lead in leads]
        order = sorted(range(len(leads)), key=lambda i: (leads[i] not in ("MLII", "II"), i))
        return order[:wanted]

    def warm_up(self) -> None:
        """Score generated beats once, so that the first patient does not wait for what libraries do at first use."""
        time = np.arange(4 * view.SAMPLES, dtype=np.float32)
        signal = np.repeat(np.sin(time / 5)[:, None], self.form.count, axis=1)
        self.score_cut(cut_causal_beats(signal, view.RATE, np.linspace(0.5, 2.5, 5), self.form.shape))

    def score(self, beats: Sequence[StreamedBeat]) -> BeatScores:
        """Score beats of any patients; all beats of one push of a stream must be given together."""
        return self.score_cut(stack_beats(beats, self.form.shape))

    def score_cut(self, cut: CausalBeats) -> BeatScores:
        """Score beats that are cut already."""
        x, columns = build_inputs(cut, self.form, len(self.task.features))
        logits = np.asarray(self.compute_logits(x, columns), dtype=np.float64)
        known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(logits).all(axis=1))
        odds = class_log_odds(np.where(known[:, None], logits, 0.0))
        if self.threshold is None:
            chosen = np.where(known[:, None], logits, 0.0).argmax(axis=1)
        else:
            chosen = (odds[:, 1] >= self.threshold).astype(np.int64)
        probability = np.where(known[:, None], _squash(odds), 0.0)
        names = tuple(self.classes[i] if good else "" for i, good in zip(chosen.tolist(), known.tolist(), strict=True))
        unusual = np.full(len(x), np.nan) if self.detector is None else _squash(self.detector.score_cut(cut))
        return BeatScores(names, probability[:, self.alarm_class], probability, columns, unusual)


def _squash(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))), dtype=np.float64)


def build_inputs(cut: CausalBeats, form: InputForm, features: int) -> tuple[Floats, Floats]:
    """Return the signals `(beats, channels, samples)` and the features `(beats, features)` of a model's form."""
    x = np.concatenate([cut.x, cut.x - cut.template], axis=1) if form.relative else cut.x
    measured = cut.shape if form.shape else cut.shape[:, :0]
    width = features - measured.shape[1]
    return x, np.concatenate([cut.features[:, :width], measured], axis=1)
