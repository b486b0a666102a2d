"""What differential privacy protects in a run, and what it does not."""

from __future__ import annotations

from experiments.report.document.privacy import PrivacySpent
from experiments.report.text.site_words import name_sites

PRIVACY_DEFINITIONS = {
    "patient": "Two data sets are neighbours if one contains one person more, with all recordings and examples of that "
    "person at the {site}. Training protects whether a person took part, and all data that the person contributed.",
    "record": "Two data sets are neighbours if one contains one example more, such as one heartbeat. Training protects "
    "that one example. It does not protect a person with many examples to the same degree: the epsilon of a person is "
    "larger by a factor of the number of examples.",
    "hospital": "Two federations are neighbours if the contribution of one {site} is zero in one of them. Training "
    "protects everything that a {site}'s updates reveal: about its patients, equipment and practices, and whether it "
    "took part.",
}
"""The neighbouring relation and what is protected, by privacy level, for `name_sites`."""
UNPROTECTED = (
    "Not protected, and not included in any epsilon: the numbers of patients and examples in the tables (of training "
    "patients too, unless a notice says that they are noisy), the results on validation and test patients, who are not "
    "the training patients, and properties of a {site} as a whole."
)
UNPROTECTED_HOSPITAL = (
    "Not protected, and not included in any epsilon: the numbers of patients and examples in the tables, the results "
    "on each {site}'s validation and test patients, and that the {site} is named here. A person treated at two "
    "{sites} contributes to both."
)
UNPROTECTED_EVALUATED = (
    "Not protected, and not included in any epsilon: that a {site} has validation and test patients, and properties "
    "of a {site} as a whole."
)
SERVER_VIEW = {
    "site": "The server receives each {site}'s update, not only the sum; the noise is added at the {site}.",
    "server": "The server receives each {site}'s update without noise and must be trusted: it adds the noise to the "
    "sum, so the guarantee holds against recipients of the models.",
}
"""What the server receives, by where the noise is added, for `name_sites`."""


def describe_unprotected(spent: PrivacySpent, kind: str, evaluated: bool = False) -> str:
    """Return what differential privacy does not cover in this run, and what the server receives.

    Args:
        spent: by training.
        kind: what a site is, such as region.
        evaluated: whether evaluation is private too.
    """
    unprotected = UNPROTECTED_HOSPITAL if spent.level == "hospital" else UNPROTECTED
    if evaluated:
        unprotected = UNPROTECTED_EVALUATED
    return name_sites(f"{unprotected} {SERVER_VIEW[spent.noise_at]}", kind)
