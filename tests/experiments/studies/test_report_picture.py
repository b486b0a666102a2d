from pathlib import Path

import pytest

from common.errors import ConfigError
from experiments.studies.report_picture import HEIGHT, WIDTH, take_picture


def test_without_a_report_or_a_browser_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    with pytest.raises(ConfigError, match="no page"):
        take_picture(page, tmp_path / "a.png")
    page.write_text("<p>report</p>")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no browser: install one of chromium"):
        take_picture(page, tmp_path / "a.png")


@pytest.mark.browser
def test_the_picture_has_the_stated_size(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>report</p>")
    take_picture(page, tmp_path / "new" / "a.png")
    header = (tmp_path / "new" / "a.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (WIDTH, HEIGHT)
