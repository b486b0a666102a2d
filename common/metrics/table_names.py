"""Names of tables of figures and counts, in messages, in a run's files and in its report.

`all`: all test patients; `without NAME`: without some of them; `against NAME`: normal examples and one abnormal class;
`group ATTRIBUTE=GROUP`: a group of patients; `recalibrated METHOD`: after recalibration at each site. A personal model
of a site has the tables `personal`, `personal without NAME` and so on. The resampled counts of a table have its name
with RESAMPLED_SUFFIX. Models that were compared where a score is known have names that end in WHERE_KNOWN.
"""

ALL_PATIENTS, PERSONAL = "all", "personal"
WITHOUT_PREFIX, AGAINST_PREFIX, GROUP_PREFIX, RECALIBRATED_PREFIX = "without ", "against ", "group ", "recalibrated "
RESAMPLED_SUFFIX = "/resampled"
NO_PERSONAL = "personal model: not answered"
"""What the note starts with of a site that answers for the federated model alone."""
WHERE_KNOWN, WHERE_UNKNOWN = ":known", ":unknown"


def personal_table(name: str) -> str:
    """Return the name of the personal model's table that has the same examples as a table of the federated model.

    >>> personal_table("all"), personal_table("all/resampled"), personal_table("without a")
    ('personal', 'personal/resampled', 'personal without a')
    """
    head, tail = (ALL_PATIENTS, "") if name.startswith(ALL_PATIENTS) else ("", " ")
    return PERSONAL + tail + name.removeprefix(head)
