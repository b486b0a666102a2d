"""Marks technical terms on a page, and fills in the glossary with those that the page uses.

The first time that a term stands in a section it becomes a link to its entry. The page's script shows the entry while
the pointer or the keyboard is on it; without a script the link leads there, and in print the glossary is on the page.
"""

from __future__ import annotations

from html.parser import HTMLParser

from experiments.report.text.glossary import compile_terms, find_key, load_glossary
from experiments.report.text.site_words import name_sites

SLOT = "<!--glossary-->"
"""Where a page's template wants the entries."""
UNMARKED = {
    "a",
    "button",
    "code",
    "h1",
    "h2",
    "label",
    "nav",
    "option",
    "script",
    "style",
    "summary",
    "svg",
    "time",
    "title",
}
"""Elements whose text is not marked: they are links or controls themselves, or no text for reading."""
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class _Marker(HTMLParser):
    """Copies a page and marks its terms.

    Attributes:
        out: the pieces of the copy.
        used: keys of all terms on the page.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self.used: set[str] = set()
        self._pattern = compile_terms()
        self._open: list[str] = []
        self._unmarked = 0
        self._sortable = False
        self._marked: set[str] = set()
        self._sections = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Copy the tag; a section at the top level starts anew with marks."""
        self.out.append(self.get_starttag_text() or "")
        if tag in VOID:
            return
        self._open.append(tag)
        self._unmarked += tag in UNMARKED
        if tag == "section":
            self._marked = set() if not self._sections else self._marked
            self._sections += 1
        if tag == "table":
            self._sortable = "sortable" in (dict(attrs).get("class") or "").split()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Copy an element without content."""
        self.out.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        """Copy the tag."""
        self.out.append(f"</{tag}>")
        while tag in self._open:
            closed = self._open.pop()
            self._unmarked -= closed in UNMARKED
            self._sections -= closed == "section"
            if closed == tag:
                break

    def handle_data(self, data: str) -> None:
        """Copy a text, with marks."""
        if not data.strip() or "script" in self._open or "style" in self._open or "main" not in self._open:
            self.out.append(data)
            return
        parts, end = [], 0
        for match in self._pattern.finditer(data):
            key = find_key(match)
            self.used.add(key)
            if self._unmarked or key in self._marked:
                continue
            self._marked.add(key)
            # Within the heading of a sortable table, which is a button, no link may stand.
            name = "span" if self._sortable and "thead" in self._open else "a"
            link = f' href="#term-{key}"' if name == "a" else ""
            mark = f'<{name} class="term"{link} data-term="{key}">{match[0]}</{name}>'
            parts += [data[end : match.start()], mark]
            end = match.end()
        self.out.append("".join(parts) + data[end:])

    def handle_entityref(self, name: str) -> None:
        """Copy a named character."""
        self.out.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        """Copy a numbered character."""
        self.out.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        """Copy a comment."""
        self.out.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        """Copy the document type."""
        self.out.append(f"<!{decl}>")


def explain_terms(page: str, kind: str = "hospital") -> str:
    """Return a page with its terms marked and the glossary of those that it uses.

    Args:
        page: the page.
        kind: what a site of the data is, such as region.
    """
    from markupsafe import escape

    marker = _Marker()
    marker.feed(page)
    marker.close()
    entries = [
        f'<div id="term-{term.key}"><dt>{escape(term.title)}</dt><dd>{escape(name_sites(term.text, kind))}</dd></div>'
        for term in sorted(load_glossary(), key=lambda term: term.title.lower())
        if term.key in marker.used
    ]
    return "".join(marker.out).replace(SLOT, "\n".join(entries))
