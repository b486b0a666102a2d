"""`wardround bench`: ratios measured in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

bench_app = typer.Typer(help="Benchmarks: ratios measured in one run.", no_args_is_help=True)


@bench_app.command("engine")
def bench_engine(
    sites: int = 10,
    examples: int = 2000,
    rounds: Annotated[int, typer.Option(help="Rounds measured for each engine.")] = 3,
    ray: Annotated[bool, typer.Option(help="Measure ray too.")] = True,
) -> None:
    """A round of each engine beside a bare loop that does the same steps."""
    from experiments.bench import engines

    typer.echo(json.dumps(engines.benchmark_engines(sites, examples, rounds, ray), indent=1))


@bench_app.command("data")
def bench_data(folder: Annotated[Path, typer.Argument(help="MIT-BIH records.")] = Path("data/mitdb")) -> None:
    """Preparing recordings, cold and from the cache, beside bare wfdb reads of the same files."""
    from experiments.bench import engines

    typer.echo(json.dumps(engines.benchmark_data(folder), indent=1))


@bench_app.command("score")
def bench_score(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    record: Annotated[Path, typer.Argument(help="A recording, without .hea.")] = Path("data/mitdb/100"),
) -> None:
    """Scoring one recording, from its files to its annotations, beside wfdb alone."""
    from experiments.bench import engines

    typer.echo(json.dumps(engines.benchmark_scoring(run, record), indent=1))


@bench_app.command("privacy")
def bench_privacy(
    batch: Annotated[int, typer.Option(min=1, help="Examples in a step.")] = 64,
    each: Annotated[int, typer.Option(min=1, help="Examples of one person, level patient.")] = 8,
    turns: Annotated[int, typer.Option(min=1, help="Times that plain and private training take turns.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """A private step beside a plain one, by every way of getting gradients of single examples or people."""
    from experiments.bench import private_step

    found = private_step.measure_private_steps(batch, each, turns)
    typer.echo(json.dumps(found, indent=1) if as_json else private_step.render_steps_table(found))
