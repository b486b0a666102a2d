"""The shell blocks of docs/how-to/deploy.md."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy.md"


def read_blocks(page: Path = PAGE) -> dict[str, list[str]]:
    """Return the shell blocks of a page by the heading that they stand under."""
    blocks: dict[str, list[str]] = {}
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading = section.splitlines()[0]
        if found := re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            blocks[heading] = found
    return blocks
