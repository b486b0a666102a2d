"""The configurations that come with Wardround, found by name from any folder."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from pathlib import Path

from common.errors import ConfigError
from common.run_folder import RunFolder

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
DATA_SUFFIXES = (*TABLE_SUFFIXES, ".hea", ".dat", ".atr", ".edf")
FOLDER = Path(__file__).resolve().parents[1]
"""Where the configurations lie, in a checkout as in an installed package."""


def find_experiment(path: Path) -> Path:
    """Return the configuration file that a command was given as a path or as a name.

    A file is returned as it is. Otherwise `synthetic`, `synthetic.yaml` and `experiments/synthetic.yaml`
    are the file of that name that comes with Wardround.

    Raises:
        ConfigError: the path is a folder, data or their description, or neither a file nor the name of an experiment.
    """
    if path.is_file():
        _require_configuration(path)
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


def _require_configuration(path: Path) -> None:
    """Refuse data, and the description of data, which `wardround data init` writes next to a configuration.

    Raises:
        ConfigError: says what to do.
    """
    if path.suffix.lower() in DATA_SUFFIXES:
        target = path if path.suffix.lower() in TABLE_SUFFIXES else path.parent
        raise ConfigError(f"{path} holds data: wardround data init {target} describes them and writes the file to run")
    if path.suffix.lower() not in (".yaml", ".yml"):
        return
    with suppress(OSError, UnicodeDecodeError):
        if re.search(r"^dataset:", path.read_text(encoding="utf-8"), re.MULTILINE):
            runs = sorted(path.parent.glob("*-run.yaml"))
            run = str(runs[0]) if len(runs) == 1 else "the configuration next to it (NAME-run.yaml)"
            raise ConfigError(f"{path} describes data and is no configuration of a run: run {run}")
