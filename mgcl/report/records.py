"""What a test found out, as records: every fact is a field, the words for print are made here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mgcl.datasets.origin import describe
from mgcl.report import published

if TYPE_CHECKING:
    from mgcl.engine.absence import Absence
    from mgcl.metrics import Scores

ARGMAX, CALIBRATED, OWN = "0.5", "calibrated", "own"  # kinds of thresholds


class Method(NamedTuple):
    """What answered."""

    name: str
    checkpoints: tuple[str, ...] = ()
    """best, last, both where they are one, or the path of another; empty where none was needed."""
    epoch: int = 0
    """Finished epochs; 0 where the checkpoint does not say."""
    under_way: int = 0
    """Episodes of the epoch that was not finished."""
    trained: bool = False
    """Whether it was trained: a report warns if it does not beat what was not."""

    @property
    def words(self) -> str:
        """For print: "MGCL, best = last (epoch 6)"."""
        epochs = [f"epoch {self.epoch}"] if self.epoch else []
        ages = epochs + ([f"{self.under_way} episodes"] if self.under_way else [])
        names = " = ".join(Path(checkpoint).stem for checkpoint in self.checkpoints)
        age = f" ({' and '.join(ages)})" if ages else ""
        return self.name + (f", {names}" if names else "") + age


class Condition(NamedTuple):
    """What answered, and how its answer became a decision: all that a number goes with."""

    method: Method
    shots: int = 1
    rule: str = ""
    """How the answers to K supports become one: "vote", "mean"; empty where there is one answer."""
    threshold_kind: str = ""
    """`ARGMAX`, `CALIBRATED`, `OWN` (test.threshold's), or empty where none has a meaning."""
    threshold: float | None = None

    @property
    def decision(self) -> str:
        """The threshold for print: "calibrated 0.30", or "-" where none has a meaning."""
        if self.threshold_kind == CALIBRATED:
            return f"{CALIBRATED} {self.threshold:.2f}"
        return "-" if self.threshold is None else f"{self.threshold:g}"

    def to_json(self) -> dict[str, Any]:
        """All fields, flat; the method's name as "method"."""
        fields = self._asdict() | self.method._asdict()
        return {"method": fields.pop("name")} | {k: v for k, v in fields.items() if k != "method"}

    @staticmethod
    def columns() -> list[str]:
        """Names of the fields in a table for programs."""
        return ["method", "checkpoint", *Method._fields[2:-1], *Condition._fields[1:]]

    def cells(self) -> list[str | int | float | None]:
        """The fields, as `columns` names them."""
        name, checkpoints, *age, _ = self.method
        return [name, "=".join(checkpoints), *age, *self[1:]]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Condition":
        """From a record that has the fields, and maybe more.

        Raises:
            KeyError: a field is missing: an earlier version put the facts into words.
        """
        name, *others = Method._fields
        method = Method(fields["method"], *(fields[key] for key in others))
        method = method._replace(checkpoints=tuple(method.checkpoints))
        return cls(method, *(fields[key] for key in cls._fields[1:]))


class Row(NamedTuple):
    """The scores under one condition."""

    condition: Condition
    scores: "Scores"


class EpisodeRow(NamedTuple):
    """One episode of the test."""

    condition: Condition
    episode_id: int
    class_id: int
    iou: float
    """Foreground IoU, percent."""
    query: str = ""
    supports: tuple[str, ...] = ()
    """Names of the images."""


class ClassRow(NamedTuple):
    """One class of the test, the pixels of its episodes pooled; percent."""

    condition: Condition
    class_id: int
    episodes: int
    iou: float
    precision: float
    recall: float


class AbsentRow(NamedTuple):
    """What images without the class cost, under one condition."""

    condition: Condition
    absence: "Absence"


Box = tuple[int, int, int, int]


class Panel(NamedTuple):
    """The picture of an episode."""

    path: str
    """Relative to the report."""
    shots: int
    kind: str
    """Of which episodes it is one: "best", "median", "worst"."""
    place: int
    """Among these, from 1."""
    episode: int
    class_id: int
    iou: float
    """Percent, at `threshold`."""
    threshold: float
    boxes: tuple[tuple[Box, ...], ...] = ()
    """Left, top, right and bottom of its tiles, row by row: a narrow page lays them out anew."""

    @property
    def group(self) -> str:
        """Heading for print: "1-shot, best"."""
        return f"{self.shots}-shot, {self.kind}"


class Cells(NamedTuple):
    """As `Scores`, but a number may be missing."""

    miou: float | None
    fb_iou: float | None
    class_iou: dict[int, float]


@dataclass(frozen=True)
class Setting:
    """On what the test was done; it finds the published numbers."""

    benchmark: str
    fold: int
    backbone: str
    data_root: str
    origin: str = ""
    """What the pictures are, if who wrote them says so: "synthetic scenes"."""

    @property
    def words(self) -> str:
        """For print: "synthetic scenes in the tree of isaid (data/demo)"."""
        return describe(self.benchmark, self.data_root, self.origin)

    def published(self, shots: int) -> Cells | None:
        """The paper's numbers, where it has any of the same data, backbone and fold."""
        if self.origin:
            return None
        found = published.find(self.benchmark, self.backbone, shots=shots, fold=self.fold)
        if not found or found.miou is None:
            return None
        return Cells(found.miou, found.fb_iou, found.class_iou)


@dataclass(frozen=True)
class Report:
    """Everything that a test found out."""

    title: str
    setting: Setting
    class_names: dict[int, str]
    """Names of the tested classes by 0-based id, in the order of the columns."""
    rows: list[Row]
    """The decisive method first."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the numbers depend on, in words."""
    verdict: list[str] = field(default_factory=list)
    """Which method won, in words."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, dict[float, float]] = field(default_factory=dict)
    """Name -> {threshold: mIoU}."""
    panels: list[Panel] = field(default_factory=list)
    episodes: list[EpisodeRow] = field(default_factory=list)
    """Every episode's IoU, for the histogram and episodes.csv."""
    classes: list[ClassRow] = field(default_factory=list)
    absent: list[AbsentRow] = field(default_factory=list)
    """Images without the class, if they were asked for."""

    @property
    def decisive(self) -> Method | None:
        """The method that the report is about: the first."""
        return self.rows[0].condition.method if self.rows else None

    @property
    def shots(self) -> list[int]:
        """The numbers of supports that were tested."""
        return sorted({row.condition.shots for row in self.rows})

    def class_name(self, class_id: int) -> str:
        """For print."""
        return self.class_names[class_id].replace("_", " ")

    def published_rows(self) -> "list[tuple[Condition, Cells]]":
        """The paper's rows for this setting and these shots; not measured here."""
        paper = Method("MGCL, the paper")
        found = [(shots, self.setting.published(shots)) for shots in self.shots]
        return [
            (Condition(paper, shots, "vote", ARGMAX, 0.5), cells) for shots, cells in found if cells
        ]


def finite(value: float | None) -> float | None:
    """The number, None where it is none."""
    return value if value is not None and math.isfinite(value) else None
