"""Training and the validation of the round before in one message to each site, with replies as if they were two.

The weights that a round starts from are those that the round before ended with, so a site that is asked for both
receives them once, validates them and trains them. Sites that only train, or only validate, are asked for that alone,
at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import Message

from common.joint_messages import join_requests, split_answer
from common.replies import TrainReply, ValidateReply
from common.reply_arrays import SomeReply
from server.exchange import Answers, Expected, Reading, Step
from server.run import PhaseRequest, Run

Collected = tuple[Answers[SomeReply], dict[str, str]]
"""The replies to one request by site, and why each other site gave none."""
Half = tuple[Message, Reading[SomeReply]]
"""The answer to one request as if it had come alone, and what it holds."""


@dataclass(frozen=True)
class Halves:
    """What a site answered.

    Attributes:
        training: to the request to train; None: it was not asked.
        validation: likewise.
    """

    training: Half[TrainReply] | None
    validation: Half[ValidateReply] | None


@dataclass(frozen=True)
class JointReader:
    """Reads answers to either request or both.

    Attributes:
        training: reads replies to the request to train.
        validation: likewise.
        trains: the part of the run that asks to train.
        validates: likewise.
        trainers: the nodes that are asked to train.
        validators: likewise.
    """

    training: Expected[TrainReply]
    validation: Expected[ValidateReply]
    trains: Step
    validates: Step
    trainers: frozenset[int]
    validators: frozenset[int]

    def read(self, answer: Message, node: int) -> Reading[Halves]:
        """Return what the answer of a node holds; a half that cannot be used has its own reason."""
        first: Message | str = answer
        second: Message | str = answer
        if node in self.trainers & self.validators and not answer.has_error():
            try:
                first, second = split_answer(answer)
            except Exception as error:
                first = second = f"its answer cannot be read: {type(error).__name__}"
        training = _read_half(self.training, answer, first, node) if node in self.trainers else None
        validation = _read_half(self.validation, answer, second, node) if node in self.validators else None
        halves = [(self.validates, validation), (self.trains, training)]
        parts = [(step, half[1].received is not None) for step, half in halves if half is not None]
        sites = [half[1].site for _, half in halves if half is not None]
        return Reading(next(filter(None, sites), ""), Halves(training, validation), parts=parts)


def collect_both(
    run: Run, training: PhaseRequest[TrainReply], validation: PhaseRequest[ValidateReply]
) -> tuple[Collected[TrainReply], Collected[ValidateReply]] | None:
    """Send the requests to train and to validate together, and return what `Run.collect` would return of each.

    A site whose answer as a whole is an error, as where its process died, is asked once more for the validation alone.
    None: the strategy does not train the weights that it validates, and nothing was sent.
    """
    others = {message.metadata.dst_node_id: message for message in validation.outgoing}
    trainers, validators = frozenset(_list_nodes(training)), frozenset(others)
    outgoing: list[Message] = []
    for message in training.outgoing:
        other = others.pop(message.metadata.dst_node_id, None)
        joint = message if other is None else join_requests(message, other)
        if joint is None:
            return None
        outgoing.append(joint)
    steps = run.describe_step(training), run.describe_step(validation)
    reader = JointReader(run.expect(training), run.expect(validation), *steps, trainers, validators)
    answers, silent = run.exchange([*outgoing, *others.values()], steps[0], reader, requests=2)
    trained = _take_half(run, training, {site: halves.training for site, (_, halves) in answers.items()}, silent)
    validated = _take_half(run, validation, {site: halves.validation for site, (_, halves) in answers.items()}, silent)
    failed = {site for site, (answer, halves) in answers.items() if answer.has_error() and halves.training is not None}
    nodes = [node for node in run.online_nodes(sorted(failed)) if node in validators]
    if nodes:
        alone = [message for message in validation.outgoing if message.metadata.dst_node_id in nodes]
        usable, lost = run.exchange(alone, steps[1], reader.validation)
        validated = dict(sorted((validated[0] | usable).items())), _remove_sites(validated[1], usable) | lost
    return trained, validated


def _list_nodes(request: PhaseRequest[SomeReply]) -> list[int]:
    return [message.metadata.dst_node_id for message in request.outgoing]


def _read_half(expected: Expected[SomeReply], answer: Message, half: Message | str, node: int) -> Half[SomeReply]:
    if isinstance(half, str):
        return answer, Reading("", None, half)
    return half, expected.read(half, node)


def _take_half(
    run: Run, request: PhaseRequest[SomeReply], halves: dict[str, Half[SomeReply] | None], silent: dict[str, str]
) -> Collected[SomeReply]:
    """Return the replies to one of the requests, and why each other site that it is for gave none."""
    contacted = {run.federation.names[node] for node in _list_nodes(request)}
    answers: Answers[SomeReply] = {}
    lost = {site: why for site, why in silent.items() if site in contacted}
    for site, half in halves.items():
        if half is None:
            continue
        message, reading = half
        if reading.received is None:
            lost[site] = reading.fault
        else:
            answers[site] = message, reading.received
    return answers, run.add_absent(request.sites, answers, lost)


def _remove_sites(lost: dict[str, str], sites: Answers[SomeReply]) -> dict[str, str]:
    return {site: why for site, why in lost.items() if site not in sites}
