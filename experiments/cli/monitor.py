"""`wardround monitor`: a ward's live monitor, and recordings streamed at one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.score import ModelName, SiteName

app = typer.Typer(help="A ward's live monitor with a run's model.", invoke_without_command=True)

Url = Annotated[str, typer.Option("--url", help="The monitor's address.")]


@app.callback()
def monitor_command(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A run's folder, or one of wardround monitor export; its model scores the beats."),
    ] = None,
    model: ModelName = "federated",
    site: SiteName = None,
    state: Annotated[Path, typer.Option("--state", help="Folder of the tokens, alerts and beats.")] = Path("monitor"),
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine only with TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: a free one.")] = 8765,
    udp_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="UDP port for signed packets; default: no UDP.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the server's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    hourly_run: Annotated[
        Path | None, typer.Option("--hourly-run", help="A run of the data set sepsis; its model gives hourly risks.")
    ] = None,
    anomaly: Annotated[
        Path | None,
        typer.Option("--anomaly", help="Finds unusual beats: a run of an autoencoder, or a file of monitor forest."),
    ] = None,
    keep_hours: Annotated[float, typer.Option(min=0.1, help="Hours that single beats are kept.")] = 24.0,
    data_store: Annotated[
        str, typer.Option("--data-store", help="Where beats and risks are stored: embedded, or influxdb.")
    ] = "embedded",
    influx_url: Annotated[
        str, typer.Option(help="Address of the InfluxDB; a login is in STATE/influxdb.login.")
    ] = "http://127.0.0.1:8086",
    influx_database: Annotated[str, typer.Option(help="Database of the InfluxDB; created if missing.")] = "wardround",
    webhook: Annotated[
        str | None, typer.Option(help="Address that alerts are sent to, signed with STATE/webhook.secret.")
    ] = None,
) -> None:
    """Watch patients: take samples from devices, score beats, raise alerts, and serve the ward's page."""
    if context.invoked_subcommand is not None:
        return
    from common.errors import UsageError

    if run is None:
        raise UsageError("monitor: name a run's folder with --run, or try wardround monitor demo")
    if data_store not in ("embedded", "influxdb"):
        raise UsageError(f"--data-store {data_store}: choose embedded or influxdb")
    _require_tornado()
    from experiments.monitor.influx import InfluxSettings
    from experiments.monitor.model_sources import describe_model
    from experiments.monitor.run import serve
    from experiments.monitor.service import Settings
    from experiments.monitor.worker import NewModel

    settings = Settings(
        NewModel(run, model, site, anomaly), state, host, port, udp_port, workers, certificate, key, keep_hours,
        notice=describe_model(run), hourly_run=hourly_run, webhook=webhook,
        influx=InfluxSettings(influx_url, influx_database, keep_hours) if data_store == "influxdb" else None,
    )  # fmt: skip
    serve(settings, typer.echo)


@app.command("replay")
def replay_command(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(help="Recordings without .hea, or folders of recordings; --dataset sepsis: the data folder."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="sepsis: patients' hours; default: recordings.")] = "",
    url: Url = "http://127.0.0.1:8765/",
    state: Annotated[Path, typer.Option("--state", help="The monitor's state folder, which holds the token.")] = Path(
        "monitor"
    ),
    speed: Annotated[
        float, typer.Option(min=0.1, max=100_000, help="Multiple of real time; of hours, 3600 is one a second.")
    ] = 1.0,
    patients: Annotated[int, typer.Option(min=0, max=5000, help="Devices; 0: one a recording, or every patient.")] = 0,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each recording.")] = float("inf"),
) -> None:
    """Stream recordings, or patients' hours, at a monitor as devices would."""
    from common.errors import UsageError

    if dataset not in ("", "sepsis"):
        raise UsageError(f"--dataset {dataset}: choose sepsis, or leave it out and name recordings")
    _require_tornado()
    import asyncio

    from experiments.monitor.tokens import load_tokens

    address, token = url.rstrip("/") + "/", load_tokens(state).first("device").token
    if dataset:
        from experiments.monitor.replay_rows import read_stays, replay_stays
        from sites import cache

        folder = recordings[0] if recordings else Path("data/challenge-2019")
        stays = read_stays(folder, cache.cache_folder(), patients)
        sent = asyncio.run(replay_stays(address, token, stays, speed))
        typer.echo(f"{len(stays):,} patients, {sent.rows:,} hours; {sent.empty:,} before anything was measured")
        return
    from experiments.monitor.replay import read_recordings, replay_recordings

    if not recordings:
        raise UsageError("monitor replay: name recordings, such as data/mitdb/208, or --dataset sepsis")
    loaded = read_recordings(recordings)
    counts = asyncio.run(replay_recordings(address, token, loaded, patients, speed, seconds))
    typer.echo(f"{counts.packets:,} packets, {counts.samples:,} samples; {counts.again:,} were sent again")


@app.command("reference")
def reference_command(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings without .hea, or folders of recordings.")],
    run: Annotated[Path, typer.Option("--run", help="The run's folder; its model scores the beats.")],
    model: ModelName = "federated",
    site: SiteName = None,
    state: Annotated[Path, typer.Option("--state", help="The monitor's state folder.")] = Path("monitor"),
) -> None:
    """Keep histograms of a model's training patients, against which the monitor judges drift."""
    _require_tornado()
    from experiments.monitor.drift import write_reference
    from experiments.monitor.reference import make_reference
    from experiments.monitor.replay import read_recordings

    reference = make_reference(run, read_recordings(recordings), model, site)
    typer.echo(f"{reference.group.patients} patients: {write_reference(state, reference)}")


@app.command("use")
def use_command(
    run: Annotated[Path, typer.Argument(help="A run's folder; its model scores from now on.")],
    model: ModelName = "federated",
    site: SiteName = None,
    state: Annotated[Path, typer.Option("--state", help="The running monitor's state folder.")] = Path("monitor"),
) -> None:
    """Let a running monitor score with another run's model, without a gap."""
    _require_tornado()
    from experiments.monitor.model_choice import choose_model
    from experiments.monitor.worker import NewModel

    typer.echo(f"the monitor takes it within seconds: {choose_model(state, NewModel(run, model, site))}")


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)],
    model: ModelName = "federated",
    site: SiteName = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights and activations of 8 bits; needs --calibration.")
    ] = False,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="--int8: recordings without .hea, or folders of them, best of people of the training data."),
    ] = None,
) -> None:
    """Write a run's model of beats for a small machine: wardround monitor --run FOLDER then needs no torch."""
    from common.errors import UsageError

    if int8 != bool(calibration):
        raise UsageError("monitor export: --int8 and --calibration go together: 8-bit ranges are chosen on recordings")
    from experiments.monitor.edge_export import export_edge_model
    from experiments.monitor.replay import read_recordings

    _require_tornado()
    made = export_edge_model(run, out, model, site, read_recordings(calibration or []))
    where = "the calibration beats" if int8 else "generated inputs"
    typer.echo(f"{made.folder}: {made.size:,} bytes; probabilities differ by {made.difference:.2g} at most ({where})")


@app.command("forest")
def forest_command(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings without .hea, or folders of recordings.")],
    run: Annotated[Path, typer.Option("--run", help="The run's folder, or an exported one; its features are used.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.", show_default=False)],
    annotator: Annotated[
        str, typer.Option(help="Suffix of annotations that say which beats are normal; none: all are.")
    ] = "atr",
    seed: Annotated[int, typer.Option(help="Seed of the forest.")] = 0,
) -> None:
    """Grow an isolation forest on a hospital's own normal beats, for wardround monitor --anomaly FILE."""
    _require_tornado()
    from experiments.monitor.isolation_forest import grow_forest, write_forest
    from experiments.monitor.model_sources import open_beat_model
    from experiments.monitor.replay import read_recordings

    chosen = None if annotator == "none" else annotator
    forest = grow_forest(open_beat_model(run), read_recordings(recordings, chosen), seed)
    typer.echo(f"{len(forest.arrays['feature'])} trees: {write_forest(out, forest)}")


@app.command("demo")
def demo_command(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: a free one.")] = 8765,
    speed: Annotated[float, typer.Option(min=0.1, max=50, help="Multiple of the recordings' speed.")] = 1.0,
    data: Annotated[Path, typer.Option(help="MIT-BIH recordings; without them, SYNTHETIC ones are streamed.")] = Path(
        "data/mitdb"
    ),
    run: Annotated[
        Path | None, typer.Option("--run", help="A run's folder; default: a small model is trained first.")
    ] = None,
    state: Annotated[
        Path, typer.Option("--state", help="Folder of the demonstration's model, tokens and alerts.")
    ] = Path("monitor-demo"),
) -> None:
    """Train a small model, start a monitor, stream patients at it, and print the address of the page."""
    _require_tornado()
    from experiments.monitor.demo import run_demo

    run_demo(port, speed, data, run, state, typer.echo)


def _require_tornado() -> None:
    """Raise an error that says how to install what the monitor needs.

    Raises:
        UsageError: tornado is not installed.
    """
    from importlib.util import find_spec

    from common.errors import UsageError

    if find_spec("tornado") is None:
        raise UsageError("the monitor needs tornado: pip install 'wardround[monitor]'")
