"""What sites state of their privacy ledgers after a round of training."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import BUDGET_SPENT, EngineError
from common.reports import PrivacySpent
from server.events import report_charges
from server.outcome import Outcome
from server.run import Run


def record_charges(
    run: Run, number: int, stated: Mapping[str, PrivacySpent | None], lost: Mapping[str, str], outcome: Outcome
) -> None:
    """Report a round's charges, and keep them to compare later ones with.

    Args:
        run: the federation.
        number: the round.
        stated: the charge of each site that answered.
        lost: why each other site did not.
        outcome: gets the epsilons.

    Raises:
        EngineError: a site's privacy budget is spent and the run is to stop then.
    """
    report_charges(run.listen, number, stated)
    for site, each in stated.items():
        if each is not None and each.epsilon_run is not None:
            outcome.trained_epsilon[site] = each.epsilon_run
    spent = [site for site, why in sorted(lost.items()) if why.startswith(BUDGET_SPENT)]
    if spent and run.config.privacy.on_budget == "stop":
        raise EngineError(f"round {number}: {spent[0]}: {lost[spent[0]]} (privacy.on_budget=stop)")


def find_older_ledger(spent: PrivacySpent | None, site: str, outcome: Outcome) -> str:
    """Return why a charge cannot follow those that the site stated before, or "": what was charged never shrinks."""
    before = outcome.trained_epsilon.get(site, 0.0)
    if spent is not None and spent.epsilon_run is not None and spent.epsilon_run < before * (1 - 1e-9):
        return (
            f"its ledger states an epsilon of {spent.epsilon_run:.4g} for this run, earlier {before:.4g}: "
            "an older copy of it is in use"
        )
    return ""
