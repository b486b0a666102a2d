"""Build a Report from the files in a run's folder, at whatever stage the run ended.

These are federated.json (the outcome), rounds.jsonl (one line per round), run.json (what was requested), baselines.json
(the models to compare with), audit.json, two-sample.json and leave-one-out.json. Only federated.json or events.jsonl
must exist: a run that was interrupted has no outcome, but its events name the hospitals and its completed rounds are
there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import DataError
from common.metrics.evaluation import find_worst_site
from common.metrics.figures import Evaluation
from common.metrics.registry import SELECTABLE
from common.metrics.table_names import (
    AGAINST_PREFIX,
    ALL_PATIENTS,
    GROUP_PREFIX,
    PERSONAL,
    RECALIBRATED_PREFIX,
    WITHOUT_PREFIX,
)
from common.run_folder import RunFolder
from experiments.report.differences import compare_groups, compare_models
from experiments.report.document.privacy import AuditResult, EvaluationPrivacy, PrivacySpent
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult, Subset, WorstSite
from experiments.report.document.run import Data, Round, RoundFigures, RoundSite, Run, Site, SplitCounts
from experiments.report.document.shift import LeftOutSite, Shift, TransferResult
from experiments.report.notices import (
    collect_notices,
    collect_partial_notices,
    collect_personal_notices,
    collect_ranking_notices,
    collect_selection_notices,
)
from experiments.report.reference_gaps import compare_with_reference
from experiments.report.run_files import describe_problem, read_lines, read_object


def build_report(folder: Path, **ending: Any) -> Report:
    """Return the report of the run in a folder.

    Args:
        folder: the run's folder.
        ending: entries that run.json gets after the report is written, such as its status.

    Raises:
        DataError: the folder contains no run, or one of its files is damaged; the message names the file.
    """
    files = RunFolder(folder)
    about = read_object(files, "about") or {}
    version: int = about.get("format", 1)
    outcome = read_object(files, "outcome", version)
    if outcome is None:
        outcome = _read_interrupted_outcome(files, version)
    try:
        return _assemble(files, about | ending, outcome, version)
    except (ValidationError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{folder}: a file of this run is not as it should be ({describe_problem(problem)})") from None


def _assemble(files: RunFolder, run: Mapping[str, Any], outcome: Mapping[str, Any], version: int) -> Report:
    folder = files.path
    lines = read_lines(files, "rounds", version)
    baselines = read_object(files, "baselines", version) or {}
    config, task, hospitals = run.get("config") or {}, outcome.get("task") or {}, outcome.get("sites") or {}
    data = Data.model_validate({key: value for key, value in (run.get("data") or {}).items() if key != "name"})
    metric = str(lines[-1]["metric"] if lines else config.get("evaluation", {}).get("metric", "macro_f1"))
    lost: dict[str, str] = {}
    for item in (*lines, outcome):
        lost |= item.get("lost") or {}
    privacy, evaluation_privacy = _parse_privacy(lines), _parse_evaluation_privacy(outcome)
    models = _parse_models(outcome, baselines, metric, folder, data.site_kind)
    binary = task.get("kind") == "multiclass" and len(task.get("classes", ())) == 2
    return Report(
        run=_parse_run(run, outcome, baselines, folder.name),
        notices=collect_notices(
            run,
            data,
            list(hospitals.values()),
            all(item.private for item in privacy) and all(item.private for item in evaluation_privacy),
            [
                *collect_partial_notices(outcome, data.site_kind),
                *collect_personal_notices(outcome, data.site_kind),
                *collect_selection_notices(run, outcome, lines),
                *collect_ranking_notices(models, data.site_kind),
            ],
        ),
        data=data,
        task=task,
        sites=tuple(_parse_site(name, item, task, lost.get(name)) for name, item in sorted(hospitals.items())),
        rounds=tuple(_parse_round(line) for line in lines),
        planned_rounds=config.get("federation", {}).get("rounds")
        or (lines[-1].get("rounds", len(lines)) if lines else 0),
        chosen_round=outcome.get("chosen") or (lines[-1]["chosen"] if lines else None),
        metric=metric,
        models=tuple(
            _add_gaps(model, metric, binary, folder) if model.groups else model
            for model in models
            if model.sites or model.pooled
        ),
        differences=compare_models(models, metric, binary, folder),
        privacy=privacy,
        evaluation_privacy=evaluation_privacy,
        views=outcome.get("views") or {},
        audit=_parse_audit(read_object(files, "audit", version)),
        shift=_parse_shift(outcome.get("shift"), read_object(files, "two_sample", version) or {}),
        explanations=outcome.get("explanations") or {},
        coefficients=read_object(files, "coefficients", version),
        gains=_sum_gains(lines, outcome.get("chosen") or (lines[-1]["chosen"] if lines else 0)),
        transfers=tuple(TransferResult.model_validate(item) for item in baselines.get("transfers", ())),
        external=tuple(config.get("sites", {}).get("external", ())),
        **parse_left_out(read_object(files, "leave_one_out", version) or {}),
        lost=dict(sorted(lost.items())),
        partial=outcome.get("partial") or {},
    )


def _add_gaps(model: ModelResult, metric: str, binary: bool, folder: Path) -> ModelResult:
    gaps = compare_groups(model, metric, binary, folder)
    return model.model_copy(
        update={"gaps": gaps, "reference_gaps": compare_with_reference(model, metric, binary, folder)}
    )


def _parse_run(run: Mapping[str, Any], outcome: Mapping[str, Any], baselines: Mapping[str, Any], folder: str) -> Run:
    return Run(
        id=run.get("id", folder),
        name=run.get("name", folder),
        title=run.get("title", ""),
        created=run.get("created", ""),
        status=run.get("status") or outcome["status"],
        error=outcome.get("error") or "",
        seconds=run.get("seconds") or outcome.get("seconds") or 0.0,
        baseline_seconds=baselines.get("seconds"),
        baselines_reused=baselines.get("reused", ""),
        engine=run.get("engine", ""),
        seed=run.get("seed"),
        config=run.get("config") or {},
        versions={key: str(value) for key, value in (run.get("versions") or {}).items()},
        commit=run.get("commit"),
    )


def _parse_audit(audit: Mapping[str, Any] | None) -> AuditResult | None:
    if audit is None:
        return None
    return AuditResult.model_validate({key: audit.get(key) for key in AuditResult.model_fields})


def _parse_shift(shift: Mapping[str, Any] | None, two_sample: Mapping[str, Any]) -> Shift | None:
    return Shift.model_validate({**shift, "two_sample": two_sample.get("pairs", ())}) if shift else None


def parse_left_out(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report's fields on leaving each hospital out, from leave-one-out.json (empty if there is none)."""
    sites = [{key: item[key] for key in LeftOutSite.model_fields if key in item} for item in results.get("sites", ())]
    return {
        "left_out": tuple(LeftOutSite.model_validate(site) for site in sites),
        "left_out_worst": results.get("worst"),
    }


def _parse_privacy(lines: Iterable[Mapping[str, Any]]) -> tuple[PrivacySpent, ...]:
    """Return what each hospital reported as spent in its last round of training, with the steps of all rounds."""
    last: dict[str, Mapping[str, Any]] = {}
    steps: dict[str, int] = {}
    lost: dict[str, int] = {}
    for line in lines:
        for site, item in line.get("sites", {}).items():
            spent = (item.get("train") or {}).get("privacy")
            if spent:
                lost[site] = lost.get(site, 0) + int(spent.get("lost_steps", 0))
                steps[site] = steps.get(site, 0) + int(spent["steps"]) + int(spent.get("lost_steps", 0))
                last[site] = spent
    return tuple(
        PrivacySpent.model_validate({**last[site], "site": site, "steps": steps[site], "lost_steps": lost[site]})
        for site in sorted(last)
    )


def _parse_evaluation_privacy(outcome: Mapping[str, Any]) -> tuple[EvaluationPrivacy, ...]:
    """Return what each hospital reported as spent by evaluation, of test patients first."""
    charges = outcome.get("evaluation_privacy") or {}
    return tuple(
        EvaluationPrivacy.model_validate(
            {key: spent[key] for key in EvaluationPrivacy.model_fields if key in spent} | {"site": site, "split": split}
        )
        for split in ("test", "validation")
        for site, spent in sorted(charges.get(split, {}).items())
    )


def _parse_site(name: str, answer: Mapping[str, Any], task: Mapping[str, Any], lost: str | None) -> Site:
    classes = [str(item) for item in task.get("classes", ())]
    counts = {
        split: SplitCounts(
            patients=part["patients"],
            examples=part["examples"],
            classes=dict(zip(classes, part["classes"], strict=False)),
            suppressed=part.get("suppressed"),
            deviation=part.get("deviation"),
        )
        for split, part in answer.get("counts", {}).items()
    }
    descriptions = {key: dict(sorted(answer.get(key, {}).items())) for key in ("excluded", "shift")}
    minimum = answer.get("min_cell_patients", 1)
    return Site.model_validate(
        {"name": name, "counts": counts, **descriptions, "lost": lost, "min_cell_patients": minimum}
    )


def _parse_round(line: Mapping[str, Any]) -> Round:
    sites = {
        name: RoundSite(
            train=_without_privacy(item.get("train")), validation=_parse_round_figures(item.get("validation"))
        )
        for name, item in sorted(line.get("sites", {}).items())
    }
    return Round(
        number=line["round"],
        seconds=line.get("seconds", 0.0),
        weights=line.get("weights", ""),
        chosen=line.get("chosen", 0),
        validation=_parse_round_figures(line.get("validation")),
        sites=sites,
        lost=line.get("lost", {}),
    )


def _sum_gains(lines: Iterable[Mapping[str, Any]], chosen: int) -> dict[str, float]:
    """Return how much the splits of each input lowered the loss, in the rounds up to the chosen one, largest first."""
    sums: dict[str, float] = {}
    for line in lines:
        for name, gain in (line.get("gains") or {}).items() if line["round"] <= chosen else ():
            sums[name] = sums.get(name, 0.0) + gain
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _without_privacy(train: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if train is None else {key: value for key, value in train.items() if key != "privacy"}


def _parse_round_figures(figures: Mapping[str, Any] | None) -> RoundFigures | None:
    if figures is None:
        return None
    known = {*RoundFigures.model_fields, *SELECTABLE}
    return RoundFigures.model_validate({key: value for key, value in figures.items() if key in known})


def _parse_models(
    outcome: Mapping[str, Any], baselines: Mapping[str, Any], metric: str, folder: Path, kind: str
) -> list[ModelResult]:
    federated = {"name": "federated", "title": "Federated model", "kind": "federated", **outcome}
    tables = (federated, *_select_personal_tables(outcome, kind), *baselines.get("models", ()))
    return [_parse_model(item, metric) for item in tables]


def _parse_model(model: Mapping[str, Any], metric: str) -> ModelResult:
    tables, pooled, suppressed = (model.get(key) or {} for key in ("test", "pooled", "suppressed"))
    subsets = {
        name: Subset.model_validate(
            {"sites": tables.get(name, {}), "pooled": pooled.get(name), "suppressed": suppressed.get(name, {})}
        )
        for name in dict.fromkeys([*tables, *pooled, *suppressed])
    }
    groups: dict[str, dict[str, Subset]] = {}
    for name, subset in _select_by_prefix(subsets, GROUP_PREFIX).items():
        attribute, _, group = name.partition("=")
        groups.setdefault(attribute, {})[group] = subset
    groups = {attribute: dict(sorted(parts.items(), key=_rank_group)) for attribute, parts in groups.items()}
    main = subsets.get(ALL_PATIENTS, Subset())
    return ModelResult(
        name=model["name"],
        title=model["title"],
        kind=model["kind"],
        trained_at=model.get("trained_at"),
        sites=main.sites,
        pooled=main.pooled,
        without=_select_by_prefix(subsets, WITHOUT_PREFIX),
        against=_select_by_prefix(subsets, AGAINST_PREFIX),
        recalibrated=_select_by_prefix(subsets, RECALIBRATED_PREFIX),
        recalibration=model.get("recalibration") or {},
        suppressed=main.suppressed,
        groups=groups,
        worst=_find_worst(main.sites, metric),
        threshold=model.get("threshold"),
        unknown=model.get("unknown", 0),
        where_known=model.get("where_known"),
    )


def _rank_group(item: tuple[str, Subset]) -> tuple[bool, float, str]:
    """Return the order of a group in its attribute: by the number that it begins at, what is unknown last."""
    name, _ = item
    number = re.search(r"\d+(?:\.\d+)?", name)
    first = -math.inf if number is None or name.startswith("under ") else float(number[0])
    return name == "unknown", first, name


def _select_by_prefix(subsets: Mapping[str, Subset], prefix: str) -> dict[str, Subset]:
    """Return the subsets whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): subset for name, subset in subsets.items() if name.startswith(prefix)}


def _select_personal_tables(outcome: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the tables of the hospitals' personal models as one model; empty if the strategy trains none."""
    parts = {
        key: {
            name.removeprefix(PERSONAL).strip() or ALL_PATIENTS: item
            for name, item in (outcome.get(key) or {}).items()
            if name.startswith(PERSONAL)
        }
        for key in ("test", "pooled", "suppressed")
    }
    if not parts["test"]:
        return []
    title = f"Personal models, each at its own {kind}"
    return [{"name": "personal", "title": title, "kind": "personal", "threshold": outcome.get("threshold"), **parts}]


def _find_worst(sites: Mapping[str, Evaluation], metric: str) -> WorstSite | None:
    worst = find_worst_site(sites, metric) if len(sites) > 1 else None
    return WorstSite(site=worst[0], metric=metric, value=worst[1]) if worst else None


def _read_interrupted_outcome(files: RunFolder, version: int) -> dict[str, Any]:
    """Return what the events record of a run that has written no outcome."""
    events = read_lines(files, "events", version)
    if not events:
        raise DataError(f"{files.path} contains no run: neither federated.json nor events.jsonl is there")
    handshake = next((event for event in events if event.get("event") == "handshake"), {})
    sites = handshake.get("sites", {})
    task = next((site.get("task") for site in sites.values()), None)
    return {"status": "interrupted", "sites": sites, "task": task, "lost": handshake.get("refused", {})}
