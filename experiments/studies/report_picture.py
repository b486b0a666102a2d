"""Take the picture of a report's first screen that stands in the README; needs Chromium.

python -m experiments.studies.report_picture RUN [PICTURE.png]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.errors import ConfigError
from common.run_folder import RunFolder

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 900
"""Of the picture, in pixels."""


def take_picture(page: Path, picture: Path) -> None:
    """Write a picture of the first screen of an HTML page.

    Raises:
        ConfigError: there is no page or no browser, or the browser fails.
    """
    if not page.is_file():
        raise ConfigError(f"no page {page}: name the folder of a run with a report")
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise ConfigError(f"no browser: install one of {', '.join(BROWSERS)}")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}"]
        done = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, timeout=120, check=False)
    if done.returncode or not picture.is_file():
        raise ConfigError(f"{browser} took no picture of {page} (status {done.returncode})")


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the picture of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/images/report.png"))
    options = parser.parse_args(arguments)
    take_picture(RunFolder(options.run).report_page, options.picture)
    print(options.picture)


if __name__ == "__main__":
    main()
