"""Generated data sets by name: `sites/generator_NAME.py`, and the ECG hospitals of `sites/generator.py`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import create_model

from common import config as configuration
from common import plugins
from common.config import Section
from common.errors import ConfigError
from sites import datasets

ECG = "synthetic"


def generators() -> dict[str, str]:
    """Return the module that generates each data set, by the data set's name.

    A generator may serve data sets whose names go on after its own: `generator_heartbeat` makes `heartbeat_csv`.
    """
    found = {ECG: "generator"}
    made = [name.removeprefix("generator_") for name in plugins.names("sites", "generate") if "_" in name]
    for name in datasets.names():
        fits = [suffix for suffix in made if name == suffix or name.startswith(f"{suffix}_")]
        if fits and name != ECG:
            found[name] = f"generator_{max(fits, key=len)}"
    return found


def make(
    name: str,
    folder: Path,
    given: dict[str, Any],
    settings: Sequence[str],
    seed: int,
    progress: Callable[[int, int], None],
) -> str:
    """Generate a data set into a folder, and return what was made in words.

    `given` and `settings` (`key=value`) are the generator's arguments; the others are as the data set's options say.

    Raises:
        ConfigError: no such generator, or not with such an argument.
        DataError: the folder holds anything else.
    """
    known = generators()
    if name not in known:
        raise ConfigError(f"no generator for {name!r}: choose one of {', '.join(known)}")
    module = importlib.import_module(f"sites.{known[name]}")
    values = _values(name, module, given, settings)
    if name == ECG:
        profiles = module.default_profiles(values["hospitals"], values["patients"], seed)
        module.generate(folder, profiles, minutes=values["minutes"], seed=seed, progress=progress)
        return f"SYNTHETIC hospitals in {folder}: {', '.join(profile.name for profile in profiles)}"
    module.generate(folder, **values, seed=seed)
    said = ", ".join(f"{key} {value}" for key, value in values.items())
    return f"SYNTHETIC {name} data in {folder}: {said}, seed {seed}"


def _values(name: str, module: ModuleType, given: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the generator's arguments: as given, or with the defaults and limits of the data set's options."""
    options = plugins.load("sites", "CARD", name, "data set").Options.model_fields
    keys = ("hospitals", "patients", "minutes") if name == ECG else _arguments(module)
    fields: dict[str, Any] = {}
    hints = get_type_hints(module.generate)
    for key in keys:
        if key in options:
            fields[key] = (options[key].annotation, options[key])
            continue
        default = inspect.signature(module.generate).parameters[key].default
        choices = get_args(hints[key])
        fields[key] = (hints[key], choices[0] if default is inspect.Parameter.empty and choices else default)
    model = create_model("Generated", __base__=Section, **fields)
    for setting in settings:
        if not all(setting.partition("=")):
            raise ConfigError(f"--set {setting}: write it as key=value, such as {keys[0]}=100")
    parsed = configuration.parse({"data": {"options": given}}, [f"data.options.{setting}" for setting in settings])
    return configuration.check(model, parsed.data.options, f"generating {name}").model_dump()


def _arguments(module: ModuleType) -> tuple[str, ...]:
    every = inspect.signature(module.generate).parameters
    return tuple(
        key for key, item in every.items() if item.kind == item.KEYWORD_ONLY and key not in ("seed", "progress")
    )
