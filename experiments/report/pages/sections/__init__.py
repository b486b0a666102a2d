"""The sections of the report's page, in order.

A section that only shows what the report holds is a line of SECTIONS and a template in templates/sections. One that
computes something or has its own plots can instead be a module of this folder that defines SECTION, and a template:

    SECTION = Section("waiting", "Waiting times", after="classes", build=build_waiting_times)
"""

from __future__ import annotations

from functools import cache

from common.plugins import list_plugins, load_plugin
from experiments.report.document.report import Report
from experiments.report.pages.section import Section
from experiments.report.plots import calibration, latent
from experiments.report.plots.drawing import Draw, Plot
from experiments.report.plots.rounds import draw_training_curves
from experiments.report.plots.sites import draw_forest_plot
from experiments.report.reference_gaps import describe_reference_gaps
from experiments.report.text import findings, transfers
from experiments.report.text.formatting import flatten_settings


def _has_calibration(report: Report) -> bool:
    return bool(report.federated and any(item.brier is not None for item in report.federated.sites.values()))


def _has_alarms(report: Report) -> bool:
    return bool(report.federated and any(item.alarms_per_day is not None for item in report.federated.sites.values()))


SECTIONS = (
    Section("summary", "Summary", appendix=False),
    Section("hospitals", "{Sites}", plots={"forest": draw_forest_plot}, appendix=False),
    Section("comparison", "Comparison of models", "Comparison", appendix=False),
    Section("differences", "Differences between models", "Differences", lambda report: bool(report.differences)),
    Section(
        "detection",
        "Anomaly detection",
        applies=lambda report: report.detecting,
        plots={"latent": latent.draw_latent_space, "overlays": latent.draw_reconstructions},
    ),
    Section("classes", "Results by class", "Classes"),
    Section(
        "calibration",
        "Calibration",
        applies=_has_calibration,
        plots={
            "reliability": calibration.draw_reliability,
            "reliability_sites": calibration.draw_site_reliability,
            "decision": calibration.draw_decision_curves,
        },
    ),
    Section("alarms", "Alarms and lead times", "Alarms", _has_alarms),
    Section(
        "subgroups",
        "Subgroups of patients",
        "Subgroups",
        lambda report: bool(report.federated and report.federated.groups),
        build=lambda report: {
            "note": describe_reference_gaps(report.federated.reference_gaps if report.federated else ())
        },
        appendix=False,
    ),
    Section(
        "exclusions",
        "With and without selected patients",
        "Exclusions",
        lambda report: bool(report.federated and report.federated.without),
    ),
    Section(
        "shift",
        "Differences between the {sites}' data",
        "Domain shift",
        lambda report: bool(report.shift and (report.shift.pairs or report.shift.lost)),
    ),
    Section(
        "transfer",
        "Transfer between {sites}",
        "Transfer",
        lambda report: bool(report.transfers),
        build=lambda report: {"summarise": transfers.summarise_transfers, "causes": transfers.CAUSES},
    ),
    Section(
        "recalibration",
        "Recalibration at each {site}",
        "Recalibration",
        lambda report: bool(report.federated and report.federated.recalibration),
    ),
    Section(
        "left_out",
        "Leave one {site} out",
        "Leave one out",
        lambda report: bool(report.left_out),
        build=lambda report: {"summary": transfers.summarise_left_out(report.left_out, report.data.site_kind)},
    ),
    Section("training", "Training", plots={"curves": draw_training_curves}),
    Section("privacy", "Privacy", applies=lambda report: bool(report.privacy or report.evaluation_privacy)),
    Section("hospital_details", "Details of each {site}", "{Site} details"),
    Section(
        "missing",
        "Missing responses",
        applies=lambda report: bool(findings.list_losses(report)),
        build=lambda report: {"losses": findings.list_losses(report)},
    ),
    Section("method", "How the results are computed", "Methods"),
    Section("data", "Data"),
    Section(
        "settings",
        "Settings and versions",
        "Settings",
        build=lambda report: {"settings": flatten_settings(report.run.config)},
    ),
)
"""The sections without a module of their own, from top to bottom."""


HOSPITAL_TEMPLATES: tuple[str, ...] = ()
"""Templates appended to the details of each hospital; they see `site`, its `number` and its `evaluation`."""


@cache
def list_sections() -> tuple[Section, ...]:
    """Return all sections in page order: SECTIONS, and each module's section behind the one named in its `after`.

    The appendix follows the other sections.
    """
    sections = list(SECTIONS)
    for name in list_plugins(__name__, "SECTION"):
        section: Section = load_plugin(__name__, "SECTION", name, "section").SECTION
        sections.insert([item.id for item in sections].index(section.after) + 1, section)
    return tuple(sorted(sections, key=lambda section: section.appendix))


def list_plots() -> dict[str, Draw]:
    """Return every plot of the page by name; a report lacks those for which the function returns None."""
    return {name: draw for section in list_sections() for name, draw in section.plots.items()}


def draw_plots(report: Report) -> dict[str, Plot]:
    """Return the plots that a report has, by name."""
    plots = {name: draw(report) for name, draw in list_plots().items()}
    return {name: plot for name, plot in plots.items() if plot is not None}
