"""`wardround bench`: times and memory as ratios to a baseline measured in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.cli.data import Settings

app = typer.Typer(help="Benchmarks: ratios to a baseline measured in the same run.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Compare = Annotated[
    Path | None,
    typer.Option("--compare", help="A file of earlier --json output: print the ratio of each figure to it."),
]
NOISY = ("100", "103", "113", "118", "119", "200", "208", "213", "222", "231")
"""Records of `bench monitor --part noise`."""


def _print_measured(
    measured: Any, render: Callable[[Any], str] | None, *, as_json: bool = False, before: Any = None
) -> None:
    """Print measurements as a table or as JSON (without `render` always); with earlier ones, the ratios too."""
    from experiments.bench.compare import render_comparison

    if as_json or (render is None and before is None):
        typer.echo(json.dumps(measured, indent=1))
        return
    if render is not None:
        typer.echo(render(measured))
    if before is not None:
        typer.echo("" if render is None else "\n", nl=False)
        typer.echo(render_comparison(measured, before))


def _read_earlier(path: Path | None) -> Any:
    """Return earlier measurements before anything is measured, so that a wrong file costs no time."""
    from experiments.bench.compare import read_measurements

    return None if path is None else read_measurements(path)


@app.command("command")
def bench_command(
    configs: Annotated[list[str] | None, typer.Argument(help="Configurations. Default: synthetic.")] = None,
    settings: Settings = None,
    turns: Annotated[int, typer.Option(min=1, help="Runs of each configuration, in turn.")] = 3,
    as_json: AsJson = False,
    compare: Compare = None,
) -> None:
    """Measure `wardround run` as a whole command, by part: start, data, rounds, test, baselines, report."""
    from experiments.bench.commands import measure_commands, render_commands_table

    before = _read_earlier(compare)
    measured = measure_commands(configs or ["synthetic"], settings or [], turns)
    _print_measured(measured, render_commands_table, as_json=as_json, before=before)


@app.command("engine")
def bench_engine(
    sites: Annotated[int, typer.Option(help="Simulated hospitals.")] = 10,
    examples: Annotated[int, typer.Option(help="Training examples of each hospital.")] = 2000,
    rounds: Annotated[int, typer.Option(help="Rounds measured for each engine.")] = 3,
    ray: Annotated[bool, typer.Option(help="Measure the ray engine too.")] = True,
    compare: Compare = None,
) -> None:
    """Compare a round of each engine with a bare loop that takes the same steps."""
    from experiments.bench.engines import benchmark_engines

    before = _read_earlier(compare)
    _print_measured(benchmark_engines(sites, examples, rounds, ray), None, before=before)


@app.command("data")
def bench_data(folder: Annotated[Path, typer.Argument(help="MIT-BIH records.")] = Path("data/mitdb")) -> None:
    """Compare preparing recordings, with and without the cache, with bare wfdb reads of the same files."""
    from experiments.bench.engines import benchmark_data

    typer.echo(json.dumps(benchmark_data(folder), indent=1))


@app.command("score")
def bench_score(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    record: Annotated[Path, typer.Argument(help="A recording, without .hea.")] = Path("data/mitdb/100"),
) -> None:
    """Compare scoring one recording, from its files to its annotations, with wfdb alone."""
    from experiments.bench.engines import benchmark_scoring

    typer.echo(json.dumps(benchmark_scoring(run, record), indent=1))


@app.command("privacy")
def bench_privacy(
    batch: Annotated[int, typer.Option(min=1, help="Examples in a step.")] = 64,
    each: Annotated[int, typer.Option(min=1, help="Examples of one person at level patient.")] = 8,
    turns: Annotated[int, typer.Option(min=1, help="Pairs of plain and private training that are timed.")] = 15,
    as_json: AsJson = False,
    compare: Compare = None,
) -> None:
    """Compare a private step with a plain one, for every way to compute gradients of single examples or people."""
    from experiments.bench.private_step import measure_private_steps, render_steps_table

    before = _read_earlier(compare)
    measured = measure_private_steps(batch, each, turns)
    _print_measured(measured, render_steps_table, as_json=as_json, before=before)


@app.command("federation")
def bench_federation(
    workload: Annotated[
        list[str] | None, typer.Option(help="synthetic, cnn or heart_disease; repeatable. Default: all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are timed in each measurement.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="Measurements of each engine, in turn.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Compare a federation of processes on this machine with the local engine: time, memory, start, traffic."""
    from common.errors import ConfigError
    from experiments.bench.federation import WORKLOADS, benchmark_federation, render_federation_table

    names = workload or list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise ConfigError(f"no workload {unknown[0]}: choose from {', '.join(WORKLOADS)}")
    measured = benchmark_federation(names, rounds, turns)
    typer.echo(json.dumps(measured, indent=1) if as_json else render_federation_table(measured))


@app.command("trees")
def bench_trees(
    config: Annotated[Path, typer.Argument(help="Configuration of boosting or a forest.")] = Path("sepsis_boosting"),
    settings: Settings = None,
    turns: Annotated[int, typer.Option(min=1, help="Measurements of each, in turn.")] = 3,
    as_json: AsJson = False,
    compare: Compare = None,
) -> None:
    """Compare the time to grow trees in a federation with that of LightGBM on pooled rows; count the messages."""
    from common.config import load_config
    from experiments.bench.trees import measure_trees, render_trees_table
    from experiments.runs.experiment_files import find_experiment

    before = _read_earlier(compare)
    measured = measure_trees(load_config(find_experiment(config), settings or []), turns)
    _print_measured(measured, render_trees_table, as_json=as_json, before=before)


@app.command("gate")
def bench_gate(
    people: Annotated[int, typer.Option(min=100, help="People of the SYNTHETIC hospital.")] = 1000,
    turns: Annotated[int, typer.Option(min=1, help="Messages of each kind that are timed.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Measure what the checks of a hospital's gate cost for each kind of message."""
    from experiments.bench.gate import measure_gate, render_gate_table

    measured = measure_gate(people, turns)
    typer.echo(json.dumps(measured, indent=1) if as_json else render_gate_table(measured))


@app.command("monitor")
def bench_monitor(
    run: Annotated[Path, typer.Argument(help="A run's folder; its model scores.")],
    part: Annotated[
        str, typer.Option(help="peaks, noise, alarms, load, time, saturation, outage, sepsis, edge, or anomaly.")
    ] = "load",
    folder: Annotated[Path, typer.Option(help="MIT-BIH records.")] = Path("data/mitdb"),
    patients: Annotated[
        int,
        typer.Option(
            min=1, help="load, saturation: devices of 3 leads at 250 Hz; sepsis: most patients of a hospital."
        ),
    ] = 200,
    seconds: Annotated[float, typer.Option(min=30, help="Seconds of the load or outage; noise: of each record.")] = 120,
    workers: Annotated[int, typer.Option(min=1, help="load, saturation, outage: worker processes.")] = 1,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="alarms: further runs; each recording is scored by one that never saw it. anomaly: autoencoders."
        ),
    ] = None,
    factor: Annotated[float, typer.Option(min=1, help="saturation: multiple of the devices' speed.")] = 10.0,
) -> None:
    """Measure the monitor: R peaks, noise and alarms on MIT-BIH, a load of patients, sepsis, or exported models."""
    from importlib import import_module

    from common.errors import UsageError

    def module(name: str) -> Any:  # only what is measured is loaded: memory is one of the figures
        return import_module(f"experiments.bench.monitor_{name}")

    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "peaks": lambda: module("beats").measure_peaks(folder),
        "noise": lambda: module("beats").measure_noise(folder, NOISY, (24.0, 12.0, 6.0, 0.0), seconds),
        "alarms": lambda: module("alarms").measure_alarms([run, *(also or [])], folder),
        "load": lambda: module("load").measure_load(run, patients, seconds, workers),
        "saturation": lambda: module("saturation").measure_saturation(run, patients, factor, seconds, workers),
        "time": lambda: module("time").measure_time(run, patients, seconds),
        "anomaly": lambda: module("anomaly").measure_anomaly(run, also or [], folder),
        "edge": lambda: module("edge").measure_edge(run, folder),
        "outage": lambda: module("outage").measure_outage(run, patients, seconds, workers),
        "sepsis": lambda: module("sepsis").measure_sepsis(run, patients),
    }
    if part not in measure:
        raise UsageError(f"bench monitor: no part {part!r}: choose one of {', '.join(measure)}")
    typer.echo(json.dumps(measure[part](), indent=1))


@app.command("growth")
def bench_growth(
    hospitals: Annotated[
        list[int] | None, typer.Option(min=2, help="Hospitals of a run; repeatable. Default: 10, 100 and 1000.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of each run.")] = 4,
    stacked: Annotated[bool, typer.Option("--stacked", help="Train with federation.stacked.")] = False,
    as_json: AsJson = False,
    compare: Compare = None,
) -> None:
    """Measure how processor time, memory and the run's folder grow with the number of hospitals (SYNTHETIC)."""
    from experiments.bench.growth import measure_growth, render_growth_table

    before = _read_earlier(compare)
    measured = measure_growth(hospitals or [10, 100, 1000], rounds, stacked=stacked)
    _print_measured(measured, render_growth_table, as_json=as_json, before=before)
