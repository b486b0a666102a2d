"""The JSON parts of the replies, one frozen type for each kind.

They are strict: a missing, unknown or wrongly typed field, a negative count or a number that is not finite is refused
when the reply is unpacked (common/messages.py). Optional fields that have their default are absent from the JSON.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, field_serializer

from common.metrics.explanations import Explanation
from common.metrics.figures import Evaluation, Recalibration
from common.task import Task
from common.untrusted import check_text

MAX_COUNT = 10**9
"""Largest number of examples or patients that a site may state."""
MAX_SAMPLES, MAX_CHANNELS, MAX_CLASSES, MAX_FEATURES = 10**6, 10**3, 10**3, 10**5
"""Largest task that a site may state: a model of it is built at the server."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Text = Annotated[str, AfterValidator(check_text)]
Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _read_task(value: object) -> Task:
    """Return a task from what its JSON holds, or the task itself."""
    if isinstance(value, Task):
        return value
    if not isinstance(value, dict) or not set(value) <= {item.name for item in fields(Task)}:
        raise ValueError("not a task")
    task = _TASK.validate_python({key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})
    sizes = (
        (task.samples, MAX_SAMPLES),
        (task.channels, MAX_CHANNELS),
        (len(task.classes), MAX_CLASSES),
        (len(task.features), MAX_FEATURES),
    )
    if any(not 0 <= size <= most for size, most in sizes):
        raise ValueError("the task is too large")
    return task


_TASK = TypeAdapter(Task)


class Report(BaseModel):
    """The JSON part of a reply."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form, without optional fields that have their default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def to_json(self) -> str:
        """Return the form that crosses the wire."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)


class SplitCounts(Report):
    """Size of one split at a site.

    Attributes:
        patients: people.
        examples: examples; where training is private, units of privacy, with noise.
        classes: examples of each class, in the task's order; None: too few patients have it to be stated.
        suppressed: the required minimum of patients, if the split has fewer and is therefore reported as empty.
        deviation: of validation and test patients, standard deviation of the noise on each number, where evaluation is
            private: each person then counts as one example; None: no noise.
    """

    patients: Count
    examples: Count
    classes: tuple[Count | None, ...]
    suppressed: Count | None = None
    deviation: NotNegative | None = None


class HandshakeCounts(Report):
    """Size of each split at a site.

    Attributes:
        train: what it trains on.
        validation: what the round and the threshold are chosen on.
        test: what the chosen model is evaluated on.
    """

    train: SplitCounts
    validation: SplitCounts
    test: SplitCounts

    def select_split(self, name: str) -> SplitCounts:
        """Return the counts of a split by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


class HandshakeReport(Report):
    """What a site states of itself in the handshake.

    Attributes:
        protocol: the version of the protocol that it speaks.
        task: inputs and classes.
        fingerprint: `task.fingerprint()`, 16 hex digits.
        synthetic: whether its data are generated.
        split: how its patients were divided.
        warning: a sentence that must accompany every figure from its data, or empty.
        excluded: rows and recordings that were left out of training, by reason.
        shift: by option of a simulated shift, what it changed in the data.
        counts: examples and patients by split.
        device: where its model trains.
        noisy: whether the training counts hold noise.
        max_bins: most bins of a score histogram that the site sends.
        count_grain: counts of predictions are multiples of this.
        min_cell_patients: results and counts of fewer people are suppressed.
    """

    protocol: int
    task: Annotated[Task, PlainValidator(_read_task)]
    fingerprint: Text
    synthetic: bool
    split: Text
    warning: Text
    excluded: dict[Text, Count]
    shift: dict[Text, Text]
    counts: HandshakeCounts
    device: Text
    noisy: bool = False
    max_bins: Annotated[int, Field(ge=16, le=4096)] = 4096
    count_grain: Annotated[int, Field(ge=1, le=1000)] = 1
    min_cell_patients: Annotated[int, Field(ge=1, le=1000)] = 1

    @field_serializer("task")
    def _task_to_dict(self, task: Task) -> dict[str, Any]:
        return task.to_dict()


class PrivacySpent(Report):
    """The privacy that a site has spent according to a ledger (client/privacy/ledger.py), including this reply.

    Attributes:
        level: what is protected: patient, record or hospital.
        unit: the unit's name.
        q: sampling rate of a step.
        sigma: noise multiplier.
        steps: steps of this charge.
        delta: of both epsilons.
        accountant: how epsilon was computed.
        epsilon_run: spent by this run so far; None: infinite.
        epsilon: spent by all runs so far; None: infinite.
        private: false where the noise came from a known seed.
        clip: norm that a unit's contribution is clipped to.
        units: units at the site, with noise unless its policy declares them public.
        noise_at: who adds the noise, at privacy.level=hospital.
        statistics: noise multiplier of the sums that the scaling came from, if this run paid for them.
        lost_steps: steps that this run was charged earlier for the same round, whose result was lost; both count.
    """

    level: Text
    unit: Text
    q: NotNegative
    sigma: NotNegative
    steps: Count
    delta: NotNegative
    accountant: Text
    epsilon_run: NotNegative | None
    epsilon: NotNegative | None
    private: bool
    clip: NotNegative
    units: Count
    noise_at: Literal["site", "server"] | None = None
    statistics: NotNegative | None = None
    lost_steps: Count = 0


class ScalingReport(Report):
    """The report on a site's sums.

    Attributes:
        deviation: standard deviation of the noise on them; None: they are exact.
        privacy: the charge for them; None: they were not charged.
    """

    deviation: NotNegative | None = None
    privacy: PrivacySpent | None = None


class TrainReport(Report):
    """The report on a round of training; at privacy.level=hospital it holds only `examples` and `privacy`.

    Attributes:
        examples: training examples, as stated in the handshake.
        loss: mean loss of the last epoch in nats; absent where training is private, or the loss is not finite.
        steps: steps taken.
        epochs: epochs trained.
        stopped_early: whether patience ended the round.
        seconds: wall-clock time.
        privacy: the charge for the round.
        state: "lost" where the site no longer had its state of an earlier round.
    """

    examples: Count
    loss: Number | None = None
    steps: Count | None = None
    epochs: Count | None = None
    stopped_early: bool | None = None
    seconds: NotNegative | None = None
    privacy: PrivacySpent | None = None
    state: Literal["lost"] | None = None


class GrowReport(Report):
    """The report on histograms of gradients, or on the sums of leaves.

    Attributes:
        examples: training examples, as stated in the handshake.
        seconds: wall-clock time.
        privacy: the charge for the round.
    """

    examples: Count
    seconds: NotNegative
    privacy: PrivacySpent | None = None


class ValidateReport(Report):
    """The report on a round's validation.

    Attributes:
        patients: validation patients.
        privacy: what their ledger was charged, where evaluation is private.
    """

    patients: Count
    privacy: PrivacySpent | None = None


class LatentReport(Report):
    """The report on sums in latent space; it has no fields."""


class DomainShiftReport(Report):
    """The report on aggregates of the comparison columns.

    Attributes:
        columns: their names.
    """

    columns: tuple[Text, ...]


class CanaryReport(Report):
    """What a site would do in a run, without any of it done.

    Attributes:
        protocol: the version of the protocol that it speaks.
        release: the version of the program that it runs.
        task: inputs and classes.
        device: where its model would train.
        load_seconds: how long opening its data took.
        step_seconds: how long a plain training step on random inputs took; None: no weights were sent.
        refusals: what of the run it would refuse, each in one line.
    """

    protocol: int
    release: Text
    task: Annotated[Task, PlainValidator(_read_task)]
    device: Text
    load_seconds: NotNegative
    step_seconds: NotNegative | None = None
    refusals: tuple[Text, ...] = ()

    @field_serializer("task")
    def _task_to_dict(self, task: Task) -> dict[str, Any]:
        return task.to_dict()


class ReconstructedExample(Report):
    """One example and the model's reconstruction of it.

    Attributes:
        kind: its class, as "class" in JSON.
        which: best, median or worst reconstructed of its class.
        error: reconstruction error.
        wanted: the example, `(channels, samples)`.
        made: the reconstruction, `(channels, samples)`.
    """

    kind: Text = Field(alias="class")
    which: Literal["best", "median", "worst"]
    error: NotNegative | None
    wanted: tuple[tuple[Number, ...], ...]
    made: tuple[tuple[Number, ...], ...]


class LatentViewReport(Report):
    """A site's test examples in the plane of most latent variance.

    Attributes:
        cells: cells along each axis.
        reach: how far the axes reach, in standard deviations.
        counts: examples by class and cell; a cell's number is `cells * row + column`.
        hidden: number of examples by class in cells that are suppressed because too few people are in them.
        examples: reconstructed examples, where the site may share them.
    """

    cells: Annotated[int, Field(ge=1, le=1000)]
    reach: NotNegative
    counts: dict[Text, dict[Count, Count]]
    hidden: dict[Text, Count]
    examples: tuple[ReconstructedExample, ...] | None = None


class FinalTestReport(Report):
    """A site's figures of the chosen model.

    Attributes:
        evaluations: figures by table name (common/metrics/table_names.py).
        recalibration: what recalibration at the site achieves; absent where there are no figures.
        explanation: which inputs change the score; absent if not requested.
        suppressed: tables withheld because of too few patients, with the required minimum.
        view: the test examples in latent space, if the model is an autoencoder.
        privacy: what the test patients' ledger was charged, where evaluation is private; `evaluations` is then empty.
        notes: where evaluation is private, sentences about the model at this site, by table.
    """

    evaluations: dict[Text, Evaluation]
    recalibration: Recalibration | None = None
    explanation: Explanation | None = None
    suppressed: dict[Text, Count] = Field(default_factory=dict)
    view: LatentViewReport | None = None
    privacy: PrivacySpent | None = None
    notes: dict[Text, Text] = Field(default_factory=dict)
