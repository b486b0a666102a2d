"""What tables of figures and counts are called, in messages, in a run's files and in its report."""

ALL_PATIENTS, RESAMPLED_SUFFIX, WITHOUT_PREFIX, PERSONAL = "all", "/resampled", "without ", "personal"
AGAINST_PREFIX, GROUP_PREFIX, RECALIBRATED_PREFIX = "against ", "group ", "recalibrated "
"""Names of tables: `all`, `without NAME`, `against NAME` (normal examples and one abnormal class alone), `group
NAME=GROUP`, each also with RESAMPLED behind it; where a site has a model of its own beside the federated one, its:
`personal`, `personal without NAME` and so on; `recalibrated METHOD`."""
