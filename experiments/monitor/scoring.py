"""A run's model, warm and ready to score beats of many patients at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import load_config
from common.errors import UsageError
from common.run_folder import RunFolder, read_run
from experiments.scoring.score import ScoringModel, open_model, score_rows
from sites import datasets
from sites.ecg import beats as view
from sites.ecg.streaming.stream import StreamedBeat, stack_beats
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats
from sites.unlabelled.recordings import InputForm, input_form
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort

VENTRICULAR = ("V", "abnormal")
"""Names of the class whose runs raise an alarm; of several, the first that the model has."""


@dataclass(frozen=True)
class BeatScores:
    """Scores of some beats.

    Attributes:
        names: the predicted class of each.
        alarm: probability of a ventricular (or abnormal) beat.
        probability: `(beats, classes)`.
        columns: the model's features `(beats, features)`, before scaling.
    """

    names: tuple[str, ...]
    alarm: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float32]


@dataclass(frozen=True)
class BeatModel:
    """A model of beats.

    Attributes:
        scoring: the run's model.
        form: how beats become its inputs.
        causal: whether it was trained on beats described by earlier beats only.
        alarm_class: index of the class whose probability is `BeatScores.alarm`.
    """

    scoring: ScoringModel
    form: InputForm
    causal: bool
    alarm_class: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.scoring.task.classes)

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
        task, form = self.scoring.task, self.form
        x = np.concatenate([cut.x, cut.x - cut.template], axis=1) if form.relative else cut.x
        width = len(task.features) - cut.shape.shape[1]
        columns = np.concatenate([cut.features[:, :width], cut.shape], axis=1)
        cohort = unlabelled_cohort(task, x, columns, ("stream",), False)
        scored = score_rows(self.scoring, ScorableRows(cohort, {}, ()))
        if len(scored.predicted) != len(x):  # a score that is no number: the beat counts as unknown
            return BeatScores(("",) * len(x), np.zeros(len(x)), np.zeros((len(x), len(self.classes))), columns)
        names = tuple(str(name) for name in scored.predicted)
        return BeatScores(names, scored.probability[:, self.alarm_class], scored.probability, columns)


def describe_model(run: Path) -> str:
    """Return what must be said of a run's model, or "".

    Raises:
        DataError: the folder is no run.
    """
    if bool(read_run(run).get("data", {}).get("synthetic")):
        return "SYNTHETIC: the model was trained on generated data: no score says anything about a patient"
    config = load_config(RunFolder(run).config)
    if not config.data.options.get("causal"):
        return "the model was trained with data.options.causal=false: it knew later beats, and is less certain here"
    return ""


def open_beat_model(run: Path, name: str = "federated", site: str | None = None) -> BeatModel:
    """Return the model of a run that classifies beats.

    Raises:
        DataError: the folder holds no complete model.
        UsageError: its inputs are not windows of beats.
    """
    scoring = open_model(run, name, site)
    source = datasets.open_source(scoring.config, Path())
    form = input_form(source)
    if form.kind != "window" or scoring.task.anomaly:
        raise UsageError(f"{run}: the monitor needs a classifier of beats (data.options.view=window)")
    classes = scoring.task.classes
    alarm = next((classes.index(item) for item in VENTRICULAR if item in classes), len(classes) - 1)
    return BeatModel(scoring, form, bool(getattr(source.options, "causal", False)), alarm)
