"""A model exported for a small machine, with 32 and 8 bits, next to the run's own: AUROC, time, memory, start."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from client.policy import SIMULATION_POLICY
from client.site import Site, load_site
from client.site_context import SiteContext
from common.config import load_config
from common.errors import EngineError
from common.run_folder import RunFolder
from experiments.monitor.beat_model import BeatModel
from experiments.monitor.edge_export import export_edge_model
from experiments.monitor.model_sources import open_beat_model
from sites.cohort import Cohort
from sites.ecg.recordings import read_recording
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats, detect_beats

BATCHES, TURNS, STARTS = (1, 16, 256), 30, 5
"""Beats scored together, times that each is timed, and starts of the service."""
RESAMPLES, SETTLE_SECONDS, START_SECONDS = 200, 2.0, 180.0
Floats = npt.NDArray[np.float64]


def load_sites(run: Path, folder: Path) -> list[Site]:
    """Return the hospitals of a run on MIT-BIH."""
    config = load_config(RunFolder(run).config)
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(folder)})})
    count = config.sites.count
    return [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]


def list_recordings(cohorts: Iterable[Cohort]) -> list[str]:
    """Return the recordings that have beats in some cohorts; a cohort may name others too."""
    return sorted({cohort.patients[i] for cohort in cohorts for i in np.unique(cohort.patient).tolist()})


def measure_edge(run: Path, folder: Path) -> dict[str, Any]:
    """Return figures of a run's model, and of the same model exported with 32 and with 8 bits.

    8-bit ranges are chosen on beats of all training recordings; AUROC is over the beats of all test people, and its
    difference from the run's has a 95 % interval over resamples of these people.

    Args:
        run: a run on MIT-BIH with data.options.causal=true.
        folder: the recordings.
    """
    sites = load_sites(run, folder)
    trained = list_recordings(site.train for site in sites)
    recordings = [read_recording(folder, name, None) for name in trained]
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"run (torch)": run}
        for title, given in (("exported, 32 bits", []), ("exported, 8 bits", recordings)):
            folders[title] = export_edge_model(run, Path(scratch) / title[-7:].strip(), calibration=given).folder
        models = {title: open_beat_model(path) for title, path in folders.items()}
        x, columns, y, person = collect_test_beats(sites)
        logits = {title: np.asarray(model.compute_logits(x, columns)) for title, model in models.items()}
        compared = compare_auroc(logits, y, person, models["run (torch)"].alarm_class)
        times = time_models(models, recordings[0])
        starts = measure_starts(folders)
        out: dict[str, Any] = {"test_people": len(np.unique(person)), "test_beats": len(y)}
        for title, path in folders.items():
            file = RunFolder(path).weights() if title == "run (torch)" else path / "model.onnx"
            out[title] = {"bytes": file.stat().st_size} | compared[title] | times[title] | starts[title]
        return out


def collect_test_beats(sites: Sequence[Site]) -> tuple[Any, Any, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return inputs, classes and people of all test beats of some hospitals."""
    names = sorted({name for site in sites for name in site.test.persons})
    people = [np.asarray([names.index(name) for name in site.test.persons])[site.test.patient] for site in sites]
    parts = [(site.test.x, site.test.features, site.test.y) for site in sites]
    x, columns, y = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(3))
    return x, columns, y, np.concatenate(people)


def compare_auroc(
    logits: dict[str, Any], y: npt.NDArray[np.int64], person: npt.NDArray[np.int64], alarm: int
) -> dict[str, dict[str, Any]]:
    """Return each model's AUROC of the alarm's class, the mean AUROC of all, and the difference of the first.

    Args:
        logits: of each model, the first of which the others are compared with.
        y: the beats' classes.
        person: whose beats they are.
        alarm: the alarm's class.
    """
    odds = {title: _log_odds(np.asarray(values, dtype=np.float64)) for title, values in logits.items()}
    classes = next(iter(odds.values())).shape[1]
    rows = [np.flatnonzero(person == one) for one in np.unique(person)]
    draw, first = np.random.default_rng(0), next(iter(odds))
    resamples = [np.concatenate([rows[i] for i in draw.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]
    before = [auroc(odds[first][each, alarm], y[each] == alarm) for each in resamples]
    out: dict[str, dict[str, Any]] = {}
    for title, values in odds.items():
        every = [auroc(values[:, c], y == c) for c in range(classes)]
        own = [auroc(values[each, alarm], y[each] == alarm) for each in resamples]
        low, high = np.nanquantile(np.subtract(own, before), [0.025, 0.975]).tolist()
        out[title] = {
            "auroc_alarm_class": round(every[alarm], 5),
            "auroc_mean_of_classes": round(float(np.nanmean(every)), 5),
            "auroc_alarm_difference": round(every[alarm] - auroc(odds[first][:, alarm], y == alarm), 5),
            "difference_95": [round(low, 5), round(high, 5)],
        }
    return out


def _log_odds(logits: Floats) -> Floats:
    from common.metrics.counts import class_log_odds

    return class_log_odds(logits)


def auroc(score: Floats, event: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, ties counted as half; NaN without both classes."""
    from scipy.stats import rankdata

    events = int(event.sum())
    if not 0 < events < len(event):
        return float("nan")
    ranks = rankdata(score)[event].sum() - events * (events + 1) / 2
    return float(ranks / (events * (len(event) - events)))


def time_models(models: dict[str, BeatModel], recording: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Return each model's milliseconds a beat, from a cut window to its score, the models timed in turn."""
    first = next(iter(models.values()))
    signal = hold_gaps(recording.signal[:, first.choose_leads(recording.leads)])[0]
    cut = cut_causal_beats(signal, recording.rate, detect_beats(signal, recording.rate), first.form.shape)
    taken: dict[str, dict[int, list[float]]] = {title: {size: [] for size in BATCHES} for title in models}
    for turn in range(TURNS + 1):
        for title, model in models.items():
            for size in BATCHES:
                part = CausalBeats(*(getattr(cut, name)[:size] for name in cut.__dataclass_fields__))
                started = time.perf_counter()
                model.score_cut(part)
                if turn:  # the first loads what libraries load at first use
                    taken[title][size].append(1000 * (time.perf_counter() - started) / size)
    medians = {
        title: {str(size): float(np.median(values)) for size, values in taken[title].items()} for title in models
    }
    return {
        title: {"beat_ms_by_batch": {size: round(value, 4) for size, value in own.items()}}
        for title, own in medians.items()
    }


def measure_starts(folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return the median seconds until the service takes samples, and its memory then, started in turn."""
    seconds: dict[str, list[float]] = {title: [] for title in folders}
    memory: dict[str, list[float]] = {title: [] for title in folders}
    for _ in range(STARTS):
        for title, folder in folders.items():
            taken, used = start_service(folder)
            seconds[title].append(taken)
            memory[title].append(used)
    return {
        title: {
            "start_s": round(float(np.median(seconds[title])), 2),
            "memory_mib": round(float(np.median(memory[title]))),
        }
        for title in folders
    }


def start_service(folder: Path, look: Callable[[psutil.Process], None] | None = None) -> tuple[float, float]:
    """Return the seconds until `wardround monitor` with one worker listens, and the MiB of its processes (PSS).

    Args:
        folder: the model.
        look: called with the process before it is stopped.

    Raises:
        EngineError: it did not start.
    """
    with tempfile.TemporaryDirectory() as state:
        words = ["-m", "experiments.cli.launcher", "monitor", "--run", str(folder), "--state", state, "--port", "0"]
        started = time.perf_counter()
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if re.match(r"page: ", line):
                        break
                else:
                    raise EngineError(f"{folder}: the monitor did not start")
                taken = time.perf_counter() - started
                time.sleep(SETTLE_SECONDS)
                me = psutil.Process(process.pid)
                if look is not None:
                    look(me)
                every = [me, *me.children(recursive=True)]
                used = sum(int(each.memory_full_info().pss) for each in every)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(START_SECONDS)
    return taken, used / 2**20
