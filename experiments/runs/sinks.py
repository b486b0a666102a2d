"""Sinks: MLflow and TensorBoard, which also receive a run's figures; each is an extra, imported on use.

A sink receives figures during the run and the report at its end, and nothing that the report does not show. A sink that
fails is reported and gets no more figures; it never ends the run.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from common import run_folder
from common.errors import ConfigError
from common.run_folder import RunFolder

if TYPE_CHECKING:
    from experiments.report.document.report import Report
    from experiments.watcher import Event, Watcher

SYNTHETIC_PREFIX = "SYNTHETIC"
"""First word of the name of a run on generated data in every sink."""
BATCH_SIZE = 100
"""Parameters or metrics in one request to an MLflow store."""


class Sink(Protocol):
    """Receives a run's figures."""

    def open(self, name: str, settings: dict[str, str], notices: Sequence[str]) -> None:
        """Start a run, with its name, its settings by dotted key, and the notices for all its figures."""

    def figure(self, name: str, value: float, step: int) -> None:
        """Log a figure of the round `step` under a path such as `validation/macro_f1/north`."""

    def file(self, path: Path) -> None:
        """Log a file of the finished report."""

    def close(self, status: str) -> None:
        """End the run; `status` is complete, failed or interrupted."""


class TensorBoard:
    """Writes event files, in one subfolder for each run."""

    def __init__(self, where: str) -> None:
        with _quiet():
            from torch.utils.tensorboard import SummaryWriter

        self._make: Callable[[str], Any] = SummaryWriter
        self._where = Path(where).expanduser()
        self._writer: Any = None

    def open(self, name: str, settings: dict[str, str], notices: Sequence[str]) -> None:
        """Create the run's folder and log its settings and notices as texts."""
        self._writer = self._make(str(self._where / name.replace(" ", "-")))
        if notices:
            self._writer.add_text("notices", "\n\n".join(f"**{text}**" for text in notices))
        rows = "\n".join(f"    {key} = {value}" for key, value in settings.items())
        self._writer.add_text("settings", rows)

    def figure(self, name: str, value: float, step: int) -> None:
        """Log a scalar."""
        self._writer.add_scalar(name, value, step)

    def file(self, path: Path) -> None:
        """Log a plot as an image and Markdown as text; ignore other files."""
        if path.suffix == ".png":
            from experiments.report.plots.drawing import read_png

            self._writer.add_image(f"plots/{path.stem}", read_png(path)[..., :3], dataformats="HWC")
        elif path.suffix == ".md":
            self._writer.add_text(path.stem, path.read_text(encoding="utf-8"))

    def close(self, status: str) -> None:
        """Log the status and close the writer."""
        self._writer.add_text("status", status)
        self._writer.close()


class MLflow:
    """Logs a run to a local store: an SQLite file `NAME.db`, or a folder that gets a file `mlflow.db`."""

    def __init__(self, where: str) -> None:
        if "://" in where:
            raise ConfigError(f"report.sinks: mlflow:{where} is not a path: figures are only logged to a local store")
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would report its use over the network
        with _quiet():
            import alembic  # noqa: F401 - not installed with mlflow-skinny, whose store needs both
            import sqlalchemy  # noqa: F401
            from mlflow import MlflowClient

        path = Path(where).expanduser().resolve()
        file = path if path.suffix in (".db", ".sqlite") else path / "mlflow.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._artifacts = file.with_name(f"{file.stem}-artifacts").as_uri()
        with _quiet():
            self._client = MlflowClient(tracking_uri=f"sqlite:///{file}")
        self._run = ""
        self._held: list[tuple[str, float, int]] = []

    def open(self, name: str, settings: dict[str, str], notices: Sequence[str]) -> None:
        """Start a run of the experiment `wardround`, with its settings as parameters and its notices as tags."""
        from mlflow.entities import Param, RunTag

        with _quiet():
            known = self._client.get_experiment_by_name("wardround")
            experiment = known.experiment_id if known else self._client.create_experiment("wardround", self._artifacts)
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
            parameters = [Param(to_sink_name(key), value[:6000]) for key, value in settings.items()]
            for start in range(0, len(parameters), BATCH_SIZE):
                self._batch(params=parameters[start : start + BATCH_SIZE])
            self._batch(tags=[RunTag(f"notice.{number}", text) for number, text in enumerate(notices, 1)])

    def figure(self, name: str, value: float, step: int) -> None:
        """Hold a metric back until the next step: logging all of a step at once takes as long as logging one."""
        if self._held and self._held[-1][2] != step:
            self._flush()
        self._held.append((to_sink_name(name), value, step))

    def _flush(self) -> None:
        from mlflow.entities import Metric

        now, held = int(time.time() * 1000), self._held
        self._held = []
        for start in range(0, len(held), BATCH_SIZE):
            self._batch(
                metrics=[Metric(name, value, now, step) for name, value, step in held[start : start + BATCH_SIZE]]
            )

    def _batch(self, **what: Any) -> None:
        with _quiet():
            self._client.log_batch(self._run, **what)

    def file(self, path: Path) -> None:
        """Log a file as an artifact."""
        self._flush()
        with _quiet():
            self._client.log_artifact(self._run, str(path), "plots" if path.parent.name == "plots" else None)

    def close(self, status: str) -> None:
        """End the run."""
        self._flush()
        with _quiet():
            ends = {"complete": "FINISHED", "interrupted": "KILLED"}
            self._client.set_terminated(self._run, ends.get(status, "FAILED"))


SINK_KINDS: dict[str, Callable[[str], Sink]] = {"mlflow": MLflow, "tensorboard": TensorBoard}
"""The class of each sink by its name; it is called with the path."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of libraries about their own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def to_sink_name(name: str) -> str:
    """Return a name with only those characters that every sink accepts.

    >>> to_sink_name("test/federated/macro_f1/St. Mary's [east]")
    'test/federated/macro_f1/St. Mary_s _east_'
    """
    return re.sub(r"[^\w./ -]", "_", name)


def open_sink(text: str) -> Sink:
    """Return the sink of a `KIND:PATH` text.

    Raises:
        ConfigError: there is no such kind, its extra is not installed, or the path cannot be written.
    """
    kind, colon, where = text.partition(":")
    if kind not in SINK_KINDS or not colon or not where:
        raise ConfigError(f"report.sinks: {text!r}: write it as {' or '.join(f'{name}:PATH' for name in SINK_KINDS)}")
    try:
        return SINK_KINDS[kind](where)
    except ImportError:
        raise ConfigError(f"report.sinks: {kind} is not installed: pip install 'wardround[{kind}]'") from None
    except OSError as error:
        raise ConfigError(f"report.sinks: cannot write {where}: {error.strerror}") from None


class SinkWatcher:
    """Passes a run's events on to another watcher, and their figures to the sinks."""

    def __init__(self, watcher: Watcher, sinks: Sequence[tuple[str, Sink]]) -> None:
        self._watcher = watcher
        self._waiting = list(sinks)
        self._open: list[tuple[str, Sink]] = []
        self.folder: Path | None = None

    def handle(self, event: Event) -> None:
        """Pass an event on; the hospitals' first answers open the sinks, and a round's figures go to them."""
        self._watcher.handle(event)
        if event["event"] == "start":
            self.folder = Path(event["folder"])
        elif event["event"] == "handshake":
            self.open_sinks(any(site.get("synthetic") for site in event["sites"].values()))
        elif event["event"] == "round":
            for name, value in _list_round_figures(event):
                self._call_each(lambda sink, name=name, value=value: sink.figure(name, value, event["round"]))  # type: ignore[misc]

    def open_sinks(self, synthetic: bool) -> None:
        """Open the sinks, once."""
        if self.folder is None or not self._waiting:
            return
        from experiments.report.text.formatting import flatten_settings

        about = run_folder.read_run(self.folder)
        synthetic = synthetic or bool(about["data"].get("synthetic"))
        notices = [f"{item['level'].upper()}: {item['text']}" for item in about["notices"]]
        if synthetic:
            notices.insert(0, f"{SYNTHETIC_PREFIX}: generated data; the figures say nothing about patients")
        name = f"{SYNTHETIC_PREFIX} {about['id']}" if synthetic else str(about["id"])
        settings = dict(flatten_settings(about["config"]))
        self._open, self._waiting = self._waiting, []
        self._call_each(lambda one: one.open(name, settings, notices))

    def close_sinks(self, status: str) -> None:
        """Log the report, if there is one, and close the sinks."""
        self.open_sinks(False)
        if self.folder is not None and RunFolder(self.folder).report.is_file():
            from experiments.report.document.report import read_report

            report = read_report(self.folder)
            for name, value, step in iterate_test_figures(report):
                self._call_each(lambda one, n=name, v=value, s=step: one.figure(n, v, s))  # type: ignore[misc]
            run_files = RunFolder(self.folder)
            files = [run_files.report, run_files.report_page, run_files.summary, run_files.model_card]
            for path in [*files, *sorted(run_files.plots.glob("*.png"))]:
                if path.is_file():
                    self._call_each(lambda one, path=path: one.file(path))  # type: ignore[misc]
        self._call_each(lambda one: one.close(status))

    def _call_each(self, act: Callable[[Sink], None]) -> None:
        for item in list(self._open):
            try:
                act(item[1])
            except Exception as problem:
                self._open.remove(item)
                text = str(problem).strip().splitlines()
                self._watcher.handle({"event": "sink-failed", "sink": item[0], "error": text[0] if text else ""})


def _list_round_figures(event: Event) -> Iterator[tuple[str, float]]:
    """Yield a round's figures by path: of all hospitals, of each hospital, and their training losses."""
    parts = {"all hospitals": event, **event.get("sites", {})}
    for site, item in parts.items():
        for metric, value in (item.get("validation") or {}).items():
            if isinstance(value, float):
                yield f"validation/{metric}/{site}", value
        loss = (item.get("train") or {}).get("loss")
        if isinstance(loss, int | float):
            yield f"train/loss/{site}", float(loss)


def iterate_test_figures(report: Report) -> Iterator[tuple[str, float, int]]:
    """Yield each model's test figures by path, with the ends of their intervals, and the chosen round."""
    from experiments.report.text import formatting

    step = report.chosen_round or 0
    for model in report.models:
        rows = {**model.sites, **({"all hospitals": model.pooled} if model.pooled else {})}
        for site, item in rows.items():
            for metric in formatting.list_table_metrics(report):
                figure = item.figure(metric)
                for end in ("value", "low", "high"):
                    if figure is not None and (value := getattr(figure, end)) is not None:
                        yield f"test/{model.name}/{metric}/{site}" + ("" if end == "value" else f"/{end}"), value, step


@contextmanager
def watch_with_sinks(texts: Sequence[str], watcher: Watcher) -> Iterator[Watcher]:
    """Yield a watcher that also passes a run's figures to sinks; without sinks, the watcher itself.

    Args:
        texts: the sinks, each as a `KIND:PATH` text.
        watcher: what receives the run's events.

    Raises:
        ConfigError: a sink cannot be opened, for the reasons given at `open_sink`; nothing has run then.
    """
    if not texts:
        yield watcher
        return
    sink_watcher = SinkWatcher(watcher, [(text, open_sink(text)) for text in texts])
    status = "failed"
    try:
        yield sink_watcher
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        sink_watcher.close_sinks(status)
