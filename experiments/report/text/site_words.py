"""The word for the sites of the data, such as region, in the program's own sentences.

A sentence that is made for a report writes `report.data.site_kind` where it names a site, and a template `site_kind`.
A sentence that is stored once for all reports has {site}, {sites}, {Site} or {Sites} there, filled in where it is used.
So no text is searched for a word, and what others wrote stays as it is.
"""

from __future__ import annotations


def name_sites(text: str, kind: str) -> str:
    """Return a stored sentence with the word for the sites at its placeholders.

    Args:
        text: the sentence; no part of it is anyone else's.
        kind: what a site is, such as region.

    >>> name_sites("{Sites}: what all {sites} lose, and the worst {site}", "region")
    'Regions: what all regions lose, and the worst region'
    """
    return text.format(site=kind, sites=f"{kind}s", Site=kind.capitalize(), Sites=f"{kind.capitalize()}s")
