"""Wardround in Python: run a federation, read its results, predict, compare.

    import wardround as wr

    run = wr.federate({"north": df1, "south": df2}, outcome="died")   # a first look, in a notebook
    run = wr.run("clinics-run.yaml")                                  # what `wardround run` does
    run.sites, run.report, run.predict(new_patients)
    wr.compare(run, "runs/an-older-one")

A name's module, and the packages that it needs, are imported when the name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.python.classifier import WardroundClassifier
    from experiments.python.frames import federate
    from experiments.python.runs import Run, compare, load_run, run

__all__ = ["Run", "WardroundClassifier", "compare", "federate", "load_run", "run"]

_HOMES = {
    "Run": "experiments.python.runs",
    "WardroundClassifier": "experiments.python.classifier",
    "compare": "experiments.python.runs",
    "federate": "experiments.python.frames",
    "load_run": "experiments.python.runs",
    "run": "experiments.python.runs",
}


def __getattr__(name: str) -> Any:
    """Return the public object `name`; its module is imported at its first use."""
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("wardround")
    if name not in _HOMES:
        raise AttributeError(f"module 'wardround' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
