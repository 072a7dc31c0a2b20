"""What a test found out, as records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from mgcl.config import Config
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.sets import benchmark
from mgcl.metrics import precision_recall
from mgcl.report import published
from mgcl.report.score import Result

if TYPE_CHECKING:
    from mgcl.metrics import Scores

PLOTS = ("threshold.png", "precision_recall.png", "learning_curve.png")


class Row(NamedTuple):
    """The scores of one method at one number of shots and one decision threshold."""

    method: str
    shots: int
    threshold: str
    scores: "Scores"


class EpisodeRow(NamedTuple):
    """One episode of the test."""

    method: str
    shots: int
    threshold: str
    episode_id: int
    class_id: int
    iou: float
    """Foreground IoU, percent."""
    query: str = ""
    supports: str = ""
    """Names of the images, parted by blanks."""


class ClassRow(NamedTuple):
    """One class of the test, the pixels of its episodes pooled; percent."""

    method: str
    shots: int
    threshold: str
    class_id: int
    episodes: int
    iou: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Report:
    """Everything that a test found out."""

    title: str
    facts: dict[str, str]
    """What the numbers depend on; benchmark, fold and backbone find the published numbers."""
    class_names: dict[int, str]
    """Names of the tested classes by 0-based id, in the order of the columns."""
    rows: list[Row]
    curves: dict[str, dict[float, float]]
    """Name -> {threshold: mIoU}."""
    notes: list[str]
    panels: list[str]
    """Paths of the pictures, relative to the report."""
    episodes: list[EpisodeRow] = field(default_factory=list)
    """Every episode's IoU, for the histogram and episodes.csv."""
    classes: list[ClassRow] = field(default_factory=list)

    @property
    def decisive(self) -> str:
        """The method that the report is about: the first."""
        return self.rows[0].method if self.rows else ""

    def published_rows(self) -> "list[tuple[str, int, str, _Cells]]":
        """The paper's rows for this benchmark, backbone, fold and shots; not measured here."""
        names = [self.facts.get(key, "") for key in ("benchmark", "backbone", "fold")]
        if not names[2].isdigit():
            return []
        rows = []
        for shots in sorted({row.shots for row in self.rows}):
            found = published.find(names[0], names[1], shots=shots, fold=int(names[2]))
            if found and found.miou is not None:
                cells = _Cells(found.miou, found.fb_iou, found.class_iou)
                rows.append(("MGCL, the paper", shots, "0.5", cells))
        return rows


class _Cells(NamedTuple):
    """As `Scores`, but a number may be missing."""

    miou: float | None
    fb_iou: float | None
    class_iou: dict[int, float]


def thresholds(result: Result, wanted: float | str = 0.5) -> dict[str, float]:
    """Thresholds to report, by their words: 0.5, one of one's own, and the calibrated one."""
    if not result.candidate.trained:
        return {"-": 0.5}
    found = {"0.5": 0.5}
    if wanted not in (0.5, "calibrated"):
        found[f"{wanted:g}"] = float(wanted)
    if result.candidate.threshold is not None:
        found[f"calibrated {result.candidate.threshold:.2f}"] = result.candidate.threshold
    return found


def rows(result: Result, wanted: float | str = 0.5) -> Iterator[Row]:
    """The scores at every threshold that is reported."""
    for words, threshold in thresholds(result, wanted).items():
        yield Row(result.candidate.name, result.shots, words, result.evaluation.scores(threshold))


def class_rows(result: Result, wanted: float | str = 0.5) -> Iterator[ClassRow]:
    """Precision and recall of each class, its episodes' pixels pooled, at each threshold."""
    name, found = result.candidate.name, result.evaluation
    if found.foreground is None:
        return
    for words, threshold in thresholds(result, wanted).items():
        ious = found.scores(threshold).class_iou
        for class_id in found.class_ids:
            here = found.episode_class == class_id
            counts = found.counts[here, found.thresholds.index(threshold)].sum(dim=0)  # (4,)
            precision, recall = precision_recall(counts, found.foreground[here].sum()).tolist()
            shown = (int(here.sum()), ious[class_id], precision, recall)
            yield ClassRow(name, result.shots, words, class_id, *shown)


def precision_recall_curve(result: Result) -> list[tuple[float, float, float]]:
    """(threshold, precision, recall), means over the classes, at every threshold that was tried."""
    found = result.evaluation
    if found.foreground is None:
        return []
    by_class = []
    for class_id in found.class_ids:
        here = found.episode_class == class_id
        by_class.append(
            precision_recall(found.counts[here].sum(dim=0), found.foreground[here].sum())
        )
    means = (
        torch.stack(by_class).nanmean(dim=0).tolist()
    )  # (classes, thresholds, 2) -> (thresholds, 2)
    return [(threshold, *mean) for threshold, mean in zip(found.thresholds, means, strict=True)]


def episode_rows(result: Result, wanted: float | str = 0.5) -> Iterator[EpisodeRow]:
    """Every episode at every threshold that is reported."""
    name, found = result.candidate.name, result.evaluation
    ids, classes = found.episode_ids.tolist(), found.episode_class.tolist()
    images = [_images(result.specs.get(episode_id)) for episode_id in ids]
    for words, threshold in thresholds(result, wanted).items():
        for columns in zip(
            ids, classes, found.episode_iou(threshold).tolist(), images, strict=True
        ):
            episode_id, class_id, iou, (query, *supports) = columns
            yield EpisodeRow(
                name, result.shots, words, episode_id, class_id, iou, query, " ".join(supports)
            )


def _images(spec: EpisodeSpec | None) -> Sequence[str]:
    """Names of an episode's query and supports."""
    return [""] if spec is None else [spec.query.name, *(entry.name for entry in spec.supports)]


def build_report(
    config: Config,
    results: list[Result],
    *,
    curves: dict[str, dict[float, float]],
    panels: list[str],
) -> Report:
    """All that the test found out."""
    bench = benchmark(config)
    about = {
        "benchmark": config.data.benchmark,
        "fold": str(config.data.fold),
        "backbone": config.model.backbone,
        "masks": config.masks.generator,
        "image size": str(config.data.image_size),
        "training seed": str(config.train.seed),
        "test seed": str(config.test.seed),
        "supports": config.test.supports,
        "test.threshold": str(config.test.threshold),
        **{key: value for r in reversed(results) for key, value in r.candidate.facts.items()},
    }
    return Report(
        title=f"MGCL on {config.data.benchmark}, fold {config.data.fold}: {config.run.name}",
        facts=about,
        class_names={c: bench.class_names[c] for c in bench.test_class_ids(config.data.fold)},
        rows=[row for result in results for row in rows(result, config.test.threshold)],
        curves=curves,
        notes=_notes(results, about),
        panels=panels,
        episodes=[row for result in results for row in episode_rows(result, config.test.threshold)],
        classes=[row for result in results for row in class_rows(result, config.test.threshold)],
    )


def _notes(results: list[Result], about: dict[str, str]) -> list[str]:
    first = [r for r in results if r.candidate is results[0].candidate]
    notes = [
        f"{r.shots}-shot: {len(r.evaluation.episode_ids)} episodes, "
        f"{r.evaluation.episodes_per_second:.1f} a second"
        for r in first
    ]
    if "WARNING" in about:
        notes.insert(0, f"WARNING: {about['WARNING']}.")
    if "chosen on" in about:
        notes.append(f"The best epoch was chosen on {about['chosen on']}.")
    if "calibrated on" in about:
        notes.append(f"The threshold was calibrated on {about['calibrated on']}.")
    else:
        notes.append(
            "The checkpoint has no calibrated threshold: it was not trained by this program."
        )
    return notes
