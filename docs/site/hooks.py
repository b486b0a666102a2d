"""Hooks of the documentation site: the pages at the top of the repository become pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT_PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
FOLDER = "project"
README = "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside of docs/."""
    root = Path(config.config_file_path).parent
    for name in PROJECT_PAGES:
        text = rewrite_project_links((root / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, f"{FOLDER}/{name.lower()}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page of docs/ whose links to the pages at the top of the repository lead to those of the site."""
    if page.file.src_uri.startswith(f"{FOLDER}/"):
        return markdown
    up = "../" * page.file.src_uri.count("/")

    def rewrite(match: re.Match[str]) -> str:
        return f"]({up}{FOLDER}/{match[1].lower()}"

    return re.sub(rf"\]\({re.escape(up)}\.\./({'|'.join(map(re.escape, PROJECT_PAGES))})", rewrite, markdown)


def rewrite_project_links(text: str) -> str:
    """Return a page of the repository's top folder with the links that hold in the site's folder `project`.

    A link to a file that is not part of the site becomes its name in code.
    """

    def rewrite(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        path, _, anchor = target.partition("#")
        suffix = f"#{anchor}" if anchor else ""
        if "://" in target or not path:
            return match[0]
        if path in PROJECT_PAGES:
            return f"[{label}]({path.lower()}{suffix})"
        if path.startswith("docs/") and path.endswith(".md"):
            return f"[{label}](../{path.removeprefix('docs/')}{suffix})"
        if path == README:
            return f"[{label}](../index.md)"
        return label if label.startswith("`") else f"`{label}`"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if part.startswith("```") else re.sub(r"\[([^\]]+)\]\(([^)]+)\)", rewrite, part) for part in parts
    )
