"""From the results of a test to its report."""

from collections.abc import Iterator

import torch

from mgcl.config import Config
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.origin import read_origin
from mgcl.datasets.sets import benchmark
from mgcl.engine.absence import measure_absence
from mgcl.metrics import precision_recall
from mgcl.report.records import (
    ARGMAX,
    CALIBRATED,
    OWN,
    AbsentRow,
    ClassRow,
    Condition,
    EpisodeRow,
    Method,
    Panel,
    Report,
    Row,
    Setting,
)
from mgcl.report.score import Result
from mgcl.report.verdict import not_beaten, verdict


def conditions(result: Result, wanted: float | str = 0.5) -> Iterator[tuple[Condition, float]]:
    """Under what a result is reported, and the threshold that was tried for it.

    These are 0.5, one of one's own (`wanted`), and the calibrated one; for an answer without a
    probability there is one condition, which names no threshold.
    """
    candidate = result.candidate
    plain = Condition(candidate.method, result.shots, candidate.rule)
    if not candidate.has_threshold:
        yield plain, 0.5
        return
    found: list[tuple[str, float | None]] = [(ARGMAX, 0.5), (CALIBRATED, candidate.threshold)]
    if wanted not in (0.5, "calibrated"):
        found.insert(1, (OWN, float(wanted)))
    for kind, threshold in found:
        if threshold is not None:
            yield plain._replace(threshold_kind=kind, threshold=threshold), threshold


def rows(result: Result, wanted: float | str = 0.5) -> Iterator[Row]:
    """The scores under every condition that is reported."""
    for condition, threshold in conditions(result, wanted):
        yield Row(condition, result.evaluation.scores(threshold))


def class_rows(result: Result, wanted: float | str = 0.5) -> Iterator[ClassRow]:
    """Precision and recall of each class, its episodes' pixels pooled, under each condition."""
    found = result.evaluation
    if found.foreground is None:
        return
    for condition, threshold in conditions(result, wanted):
        ious = found.scores(threshold).class_iou
        for class_id in found.class_ids:
            here = found.episode_class == class_id
            counts = found.counts[here, found.thresholds.index(threshold)].sum(dim=0)  # (4,)
            precision, recall = precision_recall(counts, found.foreground[here].sum()).tolist()
            shown = (int(here.sum()), ious[class_id], precision, recall)
            yield ClassRow(condition, class_id, *shown)


def absent_rows(result: Result, wanted: float | str = 0.5) -> Iterator[AbsentRow]:
    """What images without the class cost, under each condition."""
    if result.absent is not None and len(result.absent.episode_ids):
        for condition, threshold in conditions(result, wanted):
            found = measure_absence(result.evaluation, result.absent, threshold)
            yield AbsentRow(condition, found)


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
    # (classes, thresholds, 2) -> (thresholds, 2)
    means = torch.stack(by_class).nanmean(dim=0).tolist()
    return [(threshold, *mean) for threshold, mean in zip(found.thresholds, means, strict=True)]


def episode_rows(result: Result, wanted: float | str = 0.5) -> Iterator[EpisodeRow]:
    """Every episode under every condition that is reported."""
    found = result.evaluation
    ids, classes = found.episode_ids.tolist(), found.episode_class.tolist()
    images = [_images(result.specs.get(episode_id)) for episode_id in ids]
    for condition, threshold in conditions(result, wanted):
        ious = found.episode_iou(threshold).tolist()
        for episode_id, class_id, iou, names in zip(ids, classes, ious, images, strict=True):
            yield EpisodeRow(condition, episode_id, class_id, iou, *names)


def _images(spec: EpisodeSpec | None) -> tuple[str, tuple[str, ...]]:
    """Names of an episode's query and supports."""
    if spec is None:
        return "", ()
    return spec.query.name, tuple(entry.name for entry in spec.supports)


def build_report(
    config: Config,
    results: list[Result],
    *,
    curves: dict[str, dict[float, float]],
    panels: list[Panel],
) -> Report:
    """All that the test found out."""
    bench, wanted = benchmark(config), config.test.threshold
    setting = Setting(
        config.data.benchmark,
        config.data.fold,
        config.model.backbone,
        str(config.data.root),
        read_origin(config.data.root),
    )
    reached = [row for result in results for row in rows(result, wanted)]
    ours = results[0].candidate
    return Report(
        title=f"{ours.method.name} on {setting.words}, fold {setting.fold}: {config.run.name}",
        setting=setting,
        facts=_facts(config, setting, results),
        class_names={c: bench.class_names[c] for c in bench.test_class_ids(config.data.fold)},
        rows=reached,
        verdict=verdict(reached),
        warnings=[*_warnings(results), *_absent(config, results), *not_beaten(reached)],
        notes=_notes([r for r in results if _who(r) == _who(results[0])]),
        curves=curves,
        panels=panels,
        episodes=[row for result in results for row in episode_rows(result, wanted)],
        classes=[row for result in results for row in class_rows(result, wanted)],
        absent=[row for result in results for row in absent_rows(result, wanted)],
    )


def _facts(config: Config, setting: Setting, results: list[Result]) -> dict[str, str]:
    said = {key: value for r in reversed(results) for key, value in r.candidate.facts.items()}
    return {
        "data": setting.words,
        "fold": str(setting.fold),
        "backbone": setting.backbone,
        "masks": config.masks.generator,
        "image size": str(config.data.image_size),
        "training seed": str(config.train.seed),
        "test seed": str(config.test.seed),
        "supports": config.test.supports,
        "test.threshold": str(config.test.threshold),
        **said,
    }


def _warnings(results: list[Result]) -> list[str]:
    found = [r.candidate.warning for r in results if r.candidate.warning]
    return list(dict.fromkeys(found))


def _absent(config: Config, results: list[Result]) -> Iterator[str]:
    """The fold's classes that no episode asks for."""
    bench = benchmark(config)
    for shots, specs in {r.shots: r.specs for r in results}.items():
        asked = {spec.class_id for spec in specs.values()}
        absent = [c for c in bench.test_class_ids(config.data.fold) if c not in asked]
        if specs and absent:
            few = " (test.max_episodes leaves episodes out)" if config.test.max_episodes else ""
            names = ", ".join(bench.class_names[c] for c in absent)
            yield f"{shots}-shot: no episode asks for {names}{few}: left out of the mean"


def _who(result: Result) -> tuple[Method, str]:
    return result.candidate.method, result.candidate.rule


def _notes(results: list[Result]) -> list[str]:
    """Of the decisive method."""
    ours = results[0].candidate
    notes = [
        f"{r.shots}-shot: {len(r.evaluation.episode_ids)} episodes, "
        f"{r.evaluation.episodes_per_second:.1f} a second"
        for r in results
    ]
    if "chosen on" in ours.facts:
        notes.append(f"The best epoch was chosen on {ours.facts['chosen on']}.")
    if "calibrated on" in ours.facts:
        notes.append(f"The threshold was calibrated on {ours.facts['calibrated on']}.")
    elif ours.threshold is None:
        notes.append(
            "The checkpoint has no calibrated threshold: it was not trained by this program."
        )
    return notes
