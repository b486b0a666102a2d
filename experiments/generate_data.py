"""Generated data sets by name: `simulate.py` of a data set, and the ECG hospitals of
`sites/ecg/simulate/hospitals.py`.
"""

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
from common.errors import ConfigError
from common.settings import Section, validate_settings
from sites import datasets

ECG_DATA_SET = "synthetic"


def list_generators() -> dict[str, str]:
    """Return the module that generates each data set, by the data set's name."""
    folder = Path(str(datasets.__file__)).parent
    found = {ECG_DATA_SET: "sites.ecg.simulate.hospitals"}
    for name in datasets.dataset_names():
        if (folder / name / "simulate.py").is_file():
            found[name] = f"sites.datasets.{name}.simulate"
    return found


def generate_data_set(
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
    known = list_generators()
    if name not in known:
        raise ConfigError(f"no generator for {name!r}: choose one of {', '.join(known)}")
    module = importlib.import_module(known[name])
    values = _values(name, module, given, settings)
    if name == ECG_DATA_SET:
        profiles = module.default_profiles(values["hospitals"], values["patients"], seed)
        module.generate(folder, profiles, minutes=values["minutes"], seed=seed, progress=progress)
        return f"SYNTHETIC hospitals in {folder}: {', '.join(profile.name for profile in profiles)}"
    module.generate(folder, **values, seed=seed)
    said = ", ".join(f"{key} {value}" for key, value in values.items())
    return f"SYNTHETIC {name} data in {folder}: {said}, seed {seed}"


def _values(name: str, module: ModuleType, given: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the generator's arguments: as given, or with the defaults and limits of the data set's options."""
    options = plugins.load_plugin("sites.datasets", "CARD", name, "data set").Options.model_fields
    keys = ("hospitals", "patients", "minutes") if name == ECG_DATA_SET else _arguments(module)
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
    parsed = configuration.parse_config(
        {"data": {"options": given}}, [f"data.options.{setting}" for setting in settings]
    )
    return validate_settings(model, parsed.data.options, f"generating {name}").model_dump()


def _arguments(module: ModuleType) -> tuple[str, ...]:
    every = inspect.signature(module.generate).parameters
    return tuple(
        key for key, item in every.items() if item.kind == item.KEYWORD_ONLY and key not in ("seed", "progress")
    )
