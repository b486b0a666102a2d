"""`wardround monitor demo`: a small model, a monitor, and patients, in one command.

With the MIT-BIH recordings the model is trained on a few of them, and record 208 is streamed first; without them, all
is generated. The page says which, and that it is no medical device.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.config import load_config
from common.run_folder import RunFolder
from experiments.monitor.model_sources import describe_model
from experiments.monitor.replay import ReplayCounts, cut_packets, replay_packets
from experiments.monitor.run import serve
from experiments.monitor.service import Running, Settings
from experiments.monitor.worker import NewModel
from sites.ecg.recordings import Recording, read_recording, recording_names

STREAMED = ("208", "100", "200", "233", "203", "119")
"""MIT-BIH records of the demonstration: 208 has many ventricular beats, from its first minute."""
ROUNDS = 6
Echo = Callable[[str], None]


def run_demo(port: int, speed: float, data: Path, run: Path | None, state: Path, echo: Echo) -> None:
    """Run the demonstration until it is stopped.

    Args:
        port: TCP port; 0: a free one.
        speed: multiple of the recordings' speed.
        data: folder of the MIT-BIH recordings; without them, generated ones are used.
        run: a run whose model scores; None: a small one is trained, and used again by the next demonstration.
        state: folder of the model, the tokens and the alerts.
        echo: prints a line.
    """
    real = all((data / f"{name}.hea").is_file() for name in STREAMED)
    model = run or train_model(data if real else None, state, echo)
    recordings, notice = load_patients(data if real else None, model)
    echo(notice)

    async def stream(running: Running) -> None:
        await _stream(running, recordings, speed)

    serve(Settings(NewModel(model), state, port=port, notice=notice), echo, stream)


def train_model(data: Path | None, state: Path, echo: Echo) -> Path:
    """Return the run of a small model trained on causal beats: of MIT-BIH's training patients, or generated ones."""
    from experiments.cli.run_progress import RunPrinter, choose_printer
    from experiments.runs.experiment_files import find_experiment
    from experiments.runs.run import run_experiment

    folder = state / ("model-mitdb" if data else "model-synthetic")
    done = [path for path in sorted(folder.glob("*")) if RunFolder(path).report.is_file()]
    if done:
        return done[-1]
    overrides = [
        "data.options.causal=true", f"federation.rounds={ROUNDS}", "evaluation.domain_shift=false",
        "evaluation.subgroups.sex=false", "evaluation.bootstrap=0", "baselines.local=false", "baselines.pooled=false",
    ]  # fmt: skip
    overrides += [f"data.path={data}"] if data else ["data.options.hospitals=2", "data.options.leads=1"]
    name = find_experiment(Path("mitbih" if data else "synthetic"))
    echo("training a small model first; the next demonstration uses it again")
    config = load_config(name, overrides)
    return run_experiment(config, folder, choose_printer(RunPrinter, quiet=True))


def load_patients(data: Path | None, model: Path) -> tuple[list[Recording], str]:
    """Return the recordings to stream, and what the page says about them."""
    about = describe_model(model)
    if data:
        recordings = [read_recording(data, name, None) for name in STREAMED]
        text = "DEMONSTRATION, no medical device: MIT-BIH recordings (1975 to 1979) replayed"
        return recordings, f"{text}; {about}" if about else text
    from sites import datasets

    source = datasets.open_source(load_config(RunFolder(model).config), None)
    folders = sorted(path for path in source.folder.iterdir() if (path / "RECORDS").is_file()) or [source.folder]
    recordings = [
        replace(read_recording(folder, name, None), name=f"{folder.name}-{name}"[:40])
        for folder in folders
        for name in recording_names(folder)[:4]
    ]
    return recordings, "SYNTHETIC, a demonstration and no medical device: patients and model are generated"


async def _stream(running: Running, recordings: list[Recording], speed: float) -> None:
    """Stream each recording as one bed, again and again."""
    token, counts = running.tokens.first("device").token, ReplayCounts()

    async def play(number: int, recording: Recording) -> None:
        for turn in itertools.count():
            device = f"bed-{number + 1}-{recording.name}"
            length = len(recording.signal)
            packets = cut_packets(recording, device, length / recording.rate)
            later = [replace(packet, first=(packet.first or 0) + turn * length) for packet in packets]
            await replay_packets(running.url, token, later, speed, counts)

    await asyncio.gather(*(play(number, recording) for number, recording in enumerate(recordings)))
