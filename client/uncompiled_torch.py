"""Keeps torch's compiler out of a process that compiles nothing: 100 MB of memory and a second of processor time.

Every optimiser of torch 2 imports `torch._dynamo` at its first step, only to direct a compiler that is not there to
stay out. `skip_compiler` puts a module in its place that answers these two calls; any other use of it loads the
real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import torch

_NAME = "torch._dynamo"


class _NoCompiler(ModuleType):
    """Stands in for torch's compiler until something needs it."""

    @staticmethod
    def graph_break(*_: object, **__: object) -> None:
        """Do nothing: there is no graph to break."""

    @staticmethod
    def disable(fn: Callable[..., object] | None = None, *_: object, **__: object) -> object:
        """Return the function as it is: nothing compiles it."""
        return fn if fn is not None else lambda function: function

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # what the import system looks for
            raise AttributeError(name)
        return getattr(load_compiler(), name)


def skip_compiler() -> None:
    """Keep torch from loading its compiler for optimisers; does nothing where it has been loaded."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = torch._dynamo = _NoCompiler(_NAME)


def load_compiler() -> ModuleType:
    """Return torch's compiler, loading it where `skip_compiler` has kept it out."""
    if isinstance(sys.modules.get(_NAME), _NoCompiler):
        del sys.modules[_NAME]
        torch._dynamo = importlib.import_module(_NAME)
    return sys.modules[_NAME]
