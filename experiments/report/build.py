"""Build a Report from what a run left in its folder, however far the run came.

federated.json (the outcome), rounds.jsonl (a line a round), run.json (what was asked, written by whoever
started the run) and baselines.json (the models to compare with). Only one of federated.json and events.jsonl
must exist: a run that was stopped from outside has no outcome yet, but its events name the hospitals and its
rounds are whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import DataError
from common.metrics import evaluation
from common.metrics.figures import Evaluation
from common.metrics.registry import SELECTABLE
from common.run_folder import RunFolder
from experiments.report import differences
from experiments.report.document.privacy import AuditResult, PrivacySpent
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult, Subset, WorstSite
from experiments.report.document.run import Data, Notice, Round, RoundFigures, RoundSite, Run, Site, SplitCounts
from experiments.report.document.shift import LeftOutSite, Shift, TransferResult

ALL, WITHOUT, AGAINST, GROUP, PERSONAL, AGAIN = "all", "without ", "against ", "group ", "personal", "recalibrated "
"""Names of tables in federated.json and baselines.json: `all`, `without LABEL`, `against CLASS`, `group NAME=GROUP`,
each also `personal ...`; `recalibrated METHOD`."""

SYNTHETIC = "The signals were made by a generator. No figure says anything about real patients."
MIXED = "Some hospitals hold signals made by a generator. No pooled figure says anything about real patients."
NOT_PRIVATE = "NOT PRIVATE: the noise can be repeated and so taken away: no epsilon of this run holds."
NOISY = (
    "Numbers of training patients and examples are told with noise where hospitals train privately, and count each "
    "person (or record, if that is protected) once."
)
LEAK = "Patients stand in both training and test, so every figure is too good to hold for a new patient."


def build_report(run_dir: Path, **ending: Any) -> Report:
    """Return the report of the run in `run_dir`; `ending`: entries that run.json gets after the report is written.

    Raises:
        DataError: the folder holds no run, or a file of it is damaged; the message names the file.
    """
    about = (_read(RunFolder(run_dir).about) or {}) | ending
    outcome = _read(RunFolder(run_dir).outcome)
    if outcome is None:
        outcome = _unfinished(run_dir)
    try:
        return _assemble(run_dir.name, about, outcome, run_dir)
    except (ValidationError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{run_dir}: a file of this run is not as it should be ({_brief(problem)})") from None


def _assemble(folder: str, about: Mapping[str, Any], outcome: Mapping[str, Any], run_dir: Path) -> Report:
    lines = _lines(RunFolder(run_dir).rounds)
    config = about.get("config") or {}
    card = about.get("data") or {}
    data = Data.model_validate({key: value for key, value in card.items() if key != "name"})
    task = outcome.get("task") or {}
    metric = str(lines[-1]["metric"] if lines else config.get("evaluation", {}).get("metric", "macro_f1"))
    lost: dict[str, str] = {}
    for item in (*lines, outcome):
        lost |= item.get("lost") or {}
    hello = outcome.get("sites") or {}
    ours = {"name": "federated", "title": "Federated model", "kind": "federated", **outcome}
    baselines = _read(RunFolder(run_dir).baselines) or {}
    spent = _privacy(lines)
    models = [_model(item, metric) for item in (ours, *_personal(outcome), *baselines.get("models", ()))]
    binary = task.get("kind") == "multiclass" and len(task.get("classes", ())) == 2
    models = [
        model.model_copy(update={"gaps": differences.compare_groups(model, metric, binary, run_dir)})
        if model.groups
        else model
        for model in models
    ]
    planned = config.get("federation", {}).get("rounds") or (lines[-1].get("of", len(lines)) if lines else 0)
    chosen = outcome.get("chosen") or (lines[-1]["chosen"] if lines else None)
    return Report(
        run=Run(
            id=about.get("id", folder),
            name=about.get("name", folder),
            title=about.get("title", ""),
            created=about.get("created", ""),
            status=about.get("status") or outcome["status"],
            error=outcome.get("error") or "",
            seconds=about.get("seconds") or outcome.get("seconds") or 0.0,
            engine=about.get("engine", ""),
            seed=about.get("seed"),
            config=config,
            versions={key: str(value) for key, value in (about.get("versions") or {}).items()},
            commit=about.get("commit"),
        ),
        notices=_notices(about, data, config, hello.values(), all(item.private for item in spent)),
        data=data,
        task=task,
        sites=tuple(_site(name, said, task, lost.get(name)) for name, said in sorted(hello.items())),
        rounds=tuple(_round(line) for line in lines),
        planned_rounds=planned,
        chosen_round=chosen,
        metric=metric,
        models=tuple(model for model in models if model.sites or model.pooled),
        differences=differences.compare_models(models, metric, binary, run_dir),
        privacy=spent,
        views=outcome.get("views") or {},
        audit=_audited(_read(RunFolder(run_dir).audit)),
        shift=_shift(outcome.get("shift"), _read(RunFolder(run_dir).two_sample) or {}),
        explanations=outcome.get("explanations") or {},
        travel=tuple(TransferResult.model_validate(item) for item in baselines.get("travel", ())),
        external=tuple(config.get("sites", {}).get("external", ())),
        **parse_left_out(_read(RunFolder(run_dir).leave_one_out) or {}),
        lost=dict(sorted(lost.items())),
    )


def _audited(found: Mapping[str, Any] | None) -> AuditResult | None:
    """Return what an audit of the run's training found, where there was one."""
    return (
        None if found is None else AuditResult.model_validate({key: found.get(key) for key in AuditResult.model_fields})
    )


def _shift(found: Mapping[str, Any] | None, exact: Mapping[str, Any]) -> Shift | None:
    return Shift.model_validate({**found, "two_sample": exact.get("pairs", ())}) if found else None


def parse_left_out(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what leaving each hospital out gave, where that was done (experiments/runs/leave_one_out.py)."""
    told = [{key: item[key] for key in LeftOutSite.model_fields if key in item} for item in found.get("sites", ())]
    sites = tuple(LeftOutSite.model_validate(item) for item in told)
    return {"left_out": sites, "left_out_worst": found.get("worst")}


def _privacy(lines: Iterable[Mapping[str, Any]]) -> tuple[PrivacySpent, ...]:
    """Return what each hospital told of its spending in the last round that it trained in, with all its steps."""
    last: dict[str, Mapping[str, Any]] = {}
    steps: dict[str, int] = {}
    for line in lines:
        for site, item in line.get("sites", {}).items():
            told = (item.get("train") or {}).get("privacy")
            if told:
                steps[site] = steps.get(site, 0) + int(told["steps"])
                last[site] = told
    return tuple(
        PrivacySpent.model_validate({**last[site], "site": site, "steps": steps[site]}) for site in sorted(last)
    )


def _notices(
    about: Mapping[str, Any],
    data: Data,
    config: Mapping[str, Any],
    hello: Iterable[Mapping[str, Any]],
    private: bool = True,
) -> tuple[Notice, ...]:
    """The run's own notices, and those that the hospitals' answers call for even if the run forgot them."""
    said = list(hello)
    found = [Notice.model_validate(item) for item in about.get("notices") or ()]
    levels = {notice.level for notice in found}
    split = config.get("sites", {}).get("split")
    if "synthetic" not in levels and (data.synthetic or any(item.get("synthetic") for item in said)):
        some = not data.synthetic and not all(item.get("synthetic") for item in said)
        text = MIXED if some else SYNTHETIC
        found.append(Notice(level="synthetic", text=text))
    if "leak" not in levels and "beat-level" in {split, *(item.get("split") for item in said)}:
        found.append(Notice(level="leak", text=LEAK))
    if "not-private" not in levels and not private:
        found.append(Notice(level="not-private", text=NOT_PRIVATE))
    if any(item.get("noisy") for item in said):
        found.append(Notice(level="warning", text=NOISY))
    warning = next((str(item["warning"]) for item in said if item.get("warning")), data.warning)
    if warning and warning not in {notice.text for notice in found}:
        found.append(Notice(level="warning", text=warning))
    order = {"synthetic": 0, "leak": 1, "not-private": 2, "warning": 3}
    return tuple(sorted(found, key=lambda notice: order[notice.level]))


def _site(name: str, said: Mapping[str, Any], task: Mapping[str, Any], lost: str | None) -> Site:
    classes = [str(item) for item in task.get("classes", ())]
    counts = {
        split: SplitCounts(
            patients=part["patients"],
            examples=part["examples"],
            classes=dict(zip(classes, part["classes"], strict=False)),
            suppressed=part.get("suppressed"),
        )
        for split, part in said.get("counts", {}).items()
    }
    told = {key: dict(sorted(said.get(key, {}).items())) for key in ("excluded", "shift")}
    return Site.model_validate({"name": name, "counts": counts, **told, "lost": lost})


def _round(line: Mapping[str, Any]) -> Round:
    sites = {
        name: RoundSite(train=_training(item.get("train")), validation=_figures(item.get("validation")))
        for name, item in sorted(line.get("sites", {}).items())
    }
    return Round(
        number=line["round"],
        seconds=line.get("seconds", 0.0),
        weights=line.get("weights", ""),
        chosen=line.get("chosen", 0),
        validation=_figures(line.get("validation")),
        sites=sites,
        lost=line.get("lost", {}),
    )


def _training(raw: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if raw is None else {key: value for key, value in raw.items() if key != "privacy"}


def _figures(raw: Mapping[str, Any] | None) -> RoundFigures | None:
    if raw is None:
        return None
    known = {*RoundFigures.model_fields, *SELECTABLE}
    return RoundFigures.model_validate({key: value for key, value in raw.items() if key in known})


def _model(raw: Mapping[str, Any], metric: str) -> ModelResult:
    tables, pooled, less = (raw.get(key) or {} for key in ("test", "pooled", "suppressed"))
    subsets = {
        name: Subset.model_validate(
            {"sites": tables.get(name, {}), "pooled": pooled.get(name), "suppressed": less.get(name, {})}
        )
        for name in dict.fromkeys([*tables, *pooled, *less])
    }
    groups: dict[str, dict[str, Subset]] = {}
    for name, item in subsets.items():
        if name.startswith(GROUP):
            attribute, _, group = name.removeprefix(GROUP).partition("=")
            groups.setdefault(attribute, {})[group] = item
    main = subsets.get(ALL, Subset())
    return ModelResult(
        name=raw["name"],
        title=raw["title"],
        kind=raw["kind"],
        trained_at=raw.get("trained_at"),
        sites=main.sites,
        pooled=main.pooled,
        without={name.removeprefix(WITHOUT): item for name, item in subsets.items() if name.startswith(WITHOUT)},
        against={name.removeprefix(AGAINST): item for name, item in subsets.items() if name.startswith(AGAINST)},
        recalibrated={name.removeprefix(AGAIN): item for name, item in subsets.items() if name.startswith(AGAIN)},
        recalibration=raw.get("recalibration") or {},
        suppressed=main.suppressed,
        groups=groups,
        worst=_worst(main.sites, metric),
        threshold=raw.get("threshold"),
    )


def _personal(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hospitals' personal models as one model, where the strategy makes them beside the shared one."""
    parts = {
        what: {
            name.removeprefix(PERSONAL).strip() or ALL: item
            for name, item in (outcome.get(what) or {}).items()
            if name.startswith(PERSONAL)
        }
        for what in ("test", "pooled", "suppressed")
    }
    if not parts["test"]:
        return []
    about = {"name": "personal", "title": "Personal models, each at its own hospital", "kind": "personal"}
    return [{**about, "threshold": outcome.get("threshold"), **parts}]


def _worst(sites: Mapping[str, Evaluation], metric: str) -> WorstSite | None:
    found = evaluation.find_worst_site(sites, metric) if len(sites) > 1 else None
    return WorstSite(site=found[0], metric=metric, value=found[1]) if found else None


def _unfinished(run_dir: Path) -> dict[str, Any]:
    """What the events tell of a run that has written no outcome."""
    events = _lines(RunFolder(run_dir).events)
    if not events:
        raise DataError(f"{run_dir} holds no run: neither federated.json nor events.jsonl is there")
    hello = next((event for event in events if event.get("event") == "hello"), {})
    sites = hello.get("sites", {})
    task = next((said.get("task") for said in sites.values()), None)
    return {"status": "interrupted", "sites": sites, "task": task, "lost": hello.get("refused", {})}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise DataError(f"cannot read {path}: {_brief(problem)}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold an object, not a {type(found).__name__}")
    finite: dict[str, Any] = _finite(found)
    return finite


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return a file's JSON lines; a last line that was cut off in writing is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = [row for row in text.split("\n") if row.strip()]
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_finite(json.loads(row)))
        except ValueError:
            if number < len(rows):
                raise DataError(f"{path}, line {number} is damaged") from None
    return found


def _finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _brief(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return f"{type(problem).__name__}: {problem}"
