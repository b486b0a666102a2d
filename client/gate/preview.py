"""What a hospital would refuse of a run, found without releasing, charging or recording anything.

The checks are those that requests pass (client/gate/admission.py), on a copy of the register that is thrown away.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from client.gate.admission import check_model, check_people
from client.gate.approvals import get_approval_file
from client.gate.guarded_settings import check_settings
from client.gate.register import MONTH_SECONDS, Register, open_register
from client.gate.run_limits import check_run, check_task
from client.privacy.budget import open_ledger, plan_run_charges
from client.privacy.charges import BudgetSpent, Charge, build_row
from client.privacy.checks import check_private_training
from client.privacy.evaluation_checks import check_private_evaluation
from client.privacy.ledger import Ledger
from client.privacy.noisy_counts import plan_counts_charge
from client.privacy.private_evaluation import plan_evaluation_charge
from client.site import Site
from client.site_context import SiteContext
from common.config import RunConfig, fingerprint_config
from common.errors import ApprovalPending, SiteError, WardroundError
from common.messages import WAITS_FOR_APPROVAL
from common.private_evaluation import EVALUATED_SPLITS, EvaluatedSplit
from common.requests import CanaryRequest, GrowRequest, HandshakeRequest, TrainRequest
from common.tree_plan import plan_run
from common.trees import grows_trees

PREVIEW_RUN = "0" * 32
"""The run's id in the checks: no run has it."""
Check = Callable[[], None]


def list_refusals(context: SiteContext, site: Site, request: CanaryRequest) -> list[str]:
    """Return what the site would refuse of a run, each in one line that may leave it.

    Args:
        context: the site's context.
        site: the site.
        request: the run; with its first weights these are checked too.
    """
    config, policy = request.config, context.policy
    checks: list[Check] = [
        partial(check_private_training, context, site, config),
        partial(check_private_evaluation, context, site, config),
    ]
    if config.privacy.on:
        checks.append(partial(check_budget, context, site, config))
    if config.privacy.evaluation_epsilon is not None:
        validates = config.federation.choose == "best" or config.evaluation.threshold != "likelier"
        for split in EVALUATED_SPLITS:
            if len(getattr(site, split).y) and (split == "test" or validates):
                checks.append(partial(check_evaluation_budget, context, site, config, split))
    if context.simulated:
        return list(_collect_refusals(checks, context))
    checks = [
        partial(check_run, policy, config),
        partial(check_settings, policy, config),
        partial(check_approved, context, config),
        partial(check_task, policy, config, site.task),
        *checks,
    ]
    with copy_register(open_register(context)) as register:
        checks.append(partial(check_people, register, site, HandshakeRequest(config), context))
        if len(site.train.y) and site.name not in config.sites.external:
            checks += _list_training_checks(context, site, request, register)
        return list(_collect_refusals(checks, context))


def _list_training_checks(context: SiteContext, site: Site, request: CanaryRequest, register: Register) -> list[Check]:
    config, rounds = request.config, request.config.federation.rounds
    train: TrainRequest | GrowRequest
    if grows_trees(config.model.name):
        train = GrowRequest(config, 1, request.weights, method=request.method, run_id=PREVIEW_RUN)
        rounds *= plan_run(config, site.task).messages
    else:
        train = TrainRequest(config, 1, request.weights, method=request.method, run_id=PREVIEW_RUN)
        train = replace(train, proximal=request.proximal)
    checks: list[Check] = [
        partial(check_people, register, site, train, context),
        partial(check_rounds, register, context, rounds),
    ]
    return [*checks, partial(check_model, register, site, train, context)] if request.weights else checks


def _collect_refusals(checks: list[Check], context: SiteContext) -> Iterator[str]:
    """Yield why checks fail, each reason once; of an error whose text must stay here, its kind."""
    reasons: set[str] = set()
    for check in checks:
        try:
            check()
        except WardroundError as error:
            safe = isinstance(error, SiteError) or context.simulated
            text = str(error) if safe else f"{type(error).__name__}; the site's own log says why"
            if text not in reasons:
                reasons.add(text)
                yield text


def check_approved(context: SiteContext, config: RunConfig) -> None:
    """Refuse a run that somebody at the hospital must approve and has not; the run is not added to those that wait.

    Raises:
        ApprovalPending: nobody has approved it.
        SiteError: somebody refused it.
        DataError: the approvals cannot be read.
    """
    if context.policy.approval == "none" or context.state is None or context.site is None:
        return
    fingerprint = fingerprint_config(config)
    approval = get_approval_file(context.state, context.site).read().get(fingerprint)
    if approval is not None and approval.status == "declined":
        raise SiteError("policy: somebody at this hospital has declined this run")
    if approval is None or not approval.covers(PREVIEW_RUN, time.time(), context.policy.approval_days):
        raise ApprovalPending(
            f"{WAITS_FOR_APPROVAL}: somebody at this hospital must approve the configuration {fingerprint[:12]}"
        )


def check_rounds(register: Register, context: SiteContext, rounds: int) -> None:
    """Refuse a run of more rounds than the policy has left for it.

    Raises:
        SiteError: names the limit.
    """
    query = "SELECT COUNT(*) FROM questions WHERE kind = 'training' AND time > ?"
    with register.open() as connection:
        in_month = int(connection.execute(query, (time.time() - MONTH_SECONDS,)).fetchone()[0])
    policy = context.policy
    limits = (policy.max_rounds_per_run, 0, "one run"), (policy.max_rounds_per_month, in_month, "30 days")
    for limit, used, span in limits:
        if limit is not None and used + rounds > limit:
            raise SiteError(f"policy: this hospital trains at most {limit} rounds in {span}: the run has {rounds}")


def check_budget(context: SiteContext, site: Site, config: RunConfig) -> None:
    """Refuse a run whose training would spend more privacy than is left, with the release of counts before it.

    Raises:
        BudgetSpent: says how far the budget would reach.
        ConfigError: the run's epsilon cannot be kept.
        DataError: the ledger cannot be used.
    """
    ledger = open_ledger(context, site)
    counts = plan_counts_charge(context, site, config)
    charges = plan_run_charges(context, site, config, ledger.rows(), PREVIEW_RUN)
    _check_charges(ledger, [*([counts] if counts else []), *charges])


def check_evaluation_budget(context: SiteContext, site: Site, config: RunConfig, split: EvaluatedSplit) -> None:
    """Refuse a run whose evaluation would spend more privacy of a split's people than is left.

    Raises:
        BudgetSpent: says how far the budget would reach.
        ConfigError: the run's epsilon cannot be kept.
        DataError: the ledger cannot be used.
    """
    ledger = open_ledger(context, site, split)
    try:
        _check_charges(ledger, [plan_evaluation_charge(context, site, config, split, PREVIEW_RUN)])
    except BudgetSpent as error:
        raise BudgetSpent(f"{error}, for the {split} patients") from None


def _check_charges(ledger: Ledger, charges: list[Charge]) -> None:
    """Raise `BudgetSpent` where charges could not be written one after another; none is written."""
    rows = ledger.rows()
    for charge in charges:
        rows.append(build_row(rows, charge, ledger.data))


@contextmanager
def copy_register(register: Register) -> Iterator[Register]:
    """Yield a copy of a register, readable by its owner alone, which is removed afterwards."""
    with register.open():
        pass  # there is a file now
    with tempfile.TemporaryDirectory(dir=register.path.parent, prefix=".preview-") as folder:
        path = Path(folder) / register.path.name
        with closing(sqlite3.connect(register.path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        yield Register(path, register.site)
