"""What tables of figures and counts are called, in messages, in a run's files and in its report."""

ALL_PATIENTS, RESAMPLED_SUFFIX, WITHOUT_PREFIX, PERSONAL = "all", "/resampled", "without ", "personal"
AGAINST_PREFIX, GROUP_PREFIX, RECALIBRATED_PREFIX = "against ", "group ", "recalibrated "
"""Names of tables: `all`, `without NAME`, `against NAME` (normal examples and one abnormal class alone), `group
NAME=GROUP`, each also with RESAMPLED behind it; where a site has a model of its own beside the federated one, its:
`personal`, `personal without NAME` and so on; `recalibrated METHOD`."""


def personal_table(name: str) -> str:
    """Return the name of the personal model's table that has the same examples as a table of the federated model.

    >>> personal_table("all"), personal_table("all/resampled"), personal_table("without a")
    ('personal', 'personal/resampled', 'personal without a')
    """
    head, tail = (ALL_PATIENTS, "") if name.startswith(ALL_PATIENTS) else ("", " ")
    return PERSONAL + tail + name.removeprefix(head)
