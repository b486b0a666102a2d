"""What finds a beat unusual, whatever class it has: a run's autoencoder, or an isolation forest; by choice.

Both score the same beats as the classifier, in the same micro-batches. A score is the log odds of the detector less
its threshold: above 0 a beat is unusual.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import UsageError
from experiments.monitor.beat_model import AnomalyDetector, Floats
from experiments.monitor.isolation_forest import read_forest

Scores = npt.NDArray[np.float64]


def open_detector(path: Path) -> AnomalyDetector:
    """Return the detector of a run of an autoencoder, or of a file of `wardround monitor forest`.

    Raises:
        DataError: there is none.
        UsageError: it cannot judge single beats as they come.
    """
    if path.is_dir():
        return _open_autoencoder(path)
    forest = read_forest(path)
    return AnomalyDetector(path.name, forest.form, forest.form.task.features, lambda x, columns: forest.score(columns))


def _open_autoencoder(run: Path) -> AnomalyDetector:
    from experiments.scoring.score import open_model
    from sites import datasets
    from sites.unlabelled.recordings import input_form
    from sites.unlabelled_rows import unlabelled_cohort

    scoring = open_model(run)
    form = input_form(datasets.open_source(scoring.config, Path()))
    threshold, task = scoring.threshold, scoring.task
    if form.kind != "window" or not task.anomaly or threshold is None:
        raise UsageError(f"{run}: --anomaly needs an autoencoder of beats (data.options.view=window) with a threshold")
    if scoring.config.detection.relative:
        raise UsageError(f"{run}: detection.relative needs a patient's first minutes as a whole: train without it")

    def compute(x: Floats, columns: Floats) -> Scores:
        scaled = scoring.scale(unlabelled_cohort(task, x, columns, ("stream",), False))
        logits = np.asarray(scoring.predict(scaled), dtype=np.float64)
        return np.asarray(logits[:, 1] - logits[:, 0] - threshold)

    return AnomalyDetector(scoring.run, form, tuple(task.features), compute)
