"""The configurations that come with Wardround, found by name from any folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from common.errors import ConfigError
from common.run_folder import RunFolder

FOLDER = Path(__file__).resolve().parents[1]
"""Where the configurations lie, in a checkout as in an installed package."""


def find_experiment(path: Path) -> Path:
    """Return the configuration file that a command was given as a path or as a name.

    A file is returned as it is. Otherwise `synthetic`, `synthetic.yaml` and `experiments/synthetic.yaml`
    are the file of that name that comes with Wardround.

    Raises:
        ConfigError: the path is a folder, or neither a file nor the name of an experiment.
    """
    if path.is_file():
        return path
    names = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    is_name = path.suffix in ("", ".yaml") and path.parent in (Path(), Path("experiments"))
    if is_name and path.stem in names:
        return FOLDER / f"{path.stem}.yaml"
    if path.is_dir():
        config = RunFolder(path).config
        hint = f"name its {config}" if config.is_file() else "name a YAML file in it"
        raise ConfigError(f"{path} is a folder: {hint}, or an experiment, such as synthetic")
    near = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"experiments: {', '.join(names)}"
    raise ConfigError(f"no configuration file {path} ({hint})")
