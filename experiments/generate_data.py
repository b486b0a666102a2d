"""Generation of SYNTHETIC data sets: `simulate.py` of a data set, or the ECG hospitals of sites/ecg/simulate."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import create_model

from common.config import parse_config
from common.errors import ConfigError
from common.plugins import load_plugin
from common.settings import Section, validate_settings
from sites import datasets

ECG_DATA_SET = "synthetic"
"""The data set whose hospitals sites/ecg/simulate/hospitals.py generates."""


def list_generators() -> dict[str, str]:
    """Return the module that generates each data set, by the data set's name."""
    folder = Path(str(datasets.__file__)).parent
    generators = {ECG_DATA_SET: "sites.ecg.simulate.hospitals"}
    for name in datasets.dataset_names():
        if (folder / name / "simulate.py").is_file():
            generators[name] = f"sites.datasets.{name}.simulate"
    return generators


def generate_data_set(
    name: str,
    folder: Path,
    given: dict[str, Any],
    settings: Sequence[str],
    seed: int,
    on_recording: Callable[[int, int], None],
) -> str:
    """Generate a data set into a folder; return a sentence that describes it.

    Args:
        name: the data set.
        folder: an empty or new folder.
        given: arguments of the generator; others have the defaults of the data set's options.
        settings: further arguments as `key=value` texts.
        seed: the same seed generates the same data.
        on_recording: called with the number of recordings done and of all.

    Raises:
        ConfigError: there is no such generator or argument.
        DataError: the folder holds other files.
    """
    generators = list_generators()
    if name not in generators:
        raise ConfigError(f"no generator for {name!r}: choose one of {', '.join(generators)}")
    module = importlib.import_module(generators[name])
    values = _resolve_arguments(name, module, given, settings)
    if name == ECG_DATA_SET:
        profiles = module.default_profiles(values["hospitals"], values["patients"], seed)
        module.generate(folder, profiles, minutes=values["minutes"], seed=seed, progress=on_recording)
        return f"SYNTHETIC hospitals in {folder}: {', '.join(profile.name for profile in profiles)}"
    module.generate(folder, **values, seed=seed)
    listed = ", ".join(f"{key} {value}" for key, value in values.items())
    return f"SYNTHETIC {name} data in {folder}: {listed}, seed {seed}"


def _resolve_arguments(name: str, module: ModuleType, given: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the generator's arguments, with the defaults and limits of the data set's options."""
    options = load_plugin("sites.datasets", "CARD", name, "data set").Options.model_fields
    keys = ("hospitals", "patients", "minutes") if name == ECG_DATA_SET else _list_arguments(module)
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
    parsed = parse_config({"data": {"options": given}}, [f"data.options.{setting}" for setting in settings])
    return validate_settings(model, parsed.data.options, f"generating {name}").model_dump()


def _list_arguments(module: ModuleType) -> tuple[str, ...]:
    parameters = inspect.signature(module.generate).parameters
    return tuple(
        key for key, item in parameters.items() if item.kind == item.KEYWORD_ONLY and key not in ("seed", "progress")
    )
