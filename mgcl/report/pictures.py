"""The pictures of a test: panels of episodes, curves over thresholds and epochs."""

import re
from typing import TYPE_CHECKING, Any

from mgcl.build import resolve_threshold
from mgcl.config import Config
from mgcl.datasets.sets import EpisodeSet
from mgcl.engine.forward import Setup
from mgcl.files import read_records
from mgcl.images.write import write_png
from mgcl.model.fewshot import FewShotNetwork
from mgcl.report.records import Panel
from mgcl.visualize.episodes import segment
from mgcl.visualize.panels import episode_tiles
from mgcl.visualize.tiles import compose

if TYPE_CHECKING:
    from mgcl.report.score import Result


def write_panels(config: Config, result: "Result", part: EpisodeSet, setup: Setup) -> list[Panel]:
    """Pictures of the best, the median and the worst episodes, in the run's panels/.

    They replace those of an earlier test.
    """
    for old in config.run_dir.glob(f"panels/{result.shots}shot_*.png"):
        old.unlink()
    threshold = resolve_threshold(config.test.threshold, result.candidate.threshold)
    ious = result.evaluation.episode_iou(threshold)
    order = ious.argsort(descending=True, stable=True).tolist()
    middle = max(0, (len(order) - config.test.panels) // 2)
    written = []
    for kind, first in ("best", 0), ("median", middle), ("worst", -config.test.panels):
        chosen = order[first:][: config.test.panels]
        for place, index in enumerate(chosen, start=1):
            panel = Panel(
                path="",
                shots=result.shots,
                kind=kind,
                place=place,
                episode=part.ids[index],
                class_id=int(result.evaluation.episode_class[index]),
                iou=float(ious[index]),
                threshold=threshold,
            )
            written.append(_write_panel(config, panel, result.candidate.model, part, setup))
    return written


def _write_panel(
    config: Config, panel: Panel, model: FewShotNetwork, part: EpisodeSet, setup: Setup
) -> Panel:
    """Segment the episode again, draw it; returns the panel with its file."""
    seen = segment(
        model,
        part.dataset,
        panel.episode,
        setup=setup,
        threshold=panel.threshold,
        vote_share=config.test.vote_share,
    )
    rows = episode_tiles(seen.episode, seen.probability, seen.prediction)
    sheet = compose(rows, seen.title)
    class_name = part.dataset.source.benchmark.class_names[panel.class_id]
    words = [f"{panel.shots}shot", panel.kind, panel.place, panel.episode, class_name]
    name = re.sub(r"[^\w-]+", "_", "_".join(map(str, words)))  # a class may be called anything
    path = f"panels/{name}.png"
    write_png(config.run_dir / path, sheet.picture, level=2)
    return panel._replace(path=path, boxes=sheet.boxes)


def write_curves(config: Config, results: list["Result"]) -> dict[str, dict[float, float]]:
    """The plots of mIoU over the threshold and over the epochs; returns the former's numbers."""
    from mgcl.report.results import precision_recall_curve
    from mgcl.visualize.plots import learning_curve, precision_recall_plot, threshold_plot

    first = results[0].candidate
    decisive = [r for r in results if r.candidate.method == first.method]
    curves = {r.words: r.evaluation.curve() for r in decisive}
    thresholds = [r.candidate.threshold for r in decisive if r.candidate.threshold is not None]
    marks = {"argmax 0.5": 0.5} | {f"calibrated {found:.2f}": found for found in thresholds}
    name = first.method.words
    title = f"{name}: mIoU over the decision threshold"
    threshold_plot(config.run_dir / "threshold.png", curves, marks=marks, title=title)
    precision_recall_plot(
        config.run_dir / "precision_recall.png",
        {r.words: precision_recall_curve(r) for r in decisive},
        marks=marks,
        title=f"{name}: precision over recall, mean over the classes",
    )
    epochs: dict[int, dict[str, Any]] = {}
    for record in read_records(config.run_dir / "log.jsonl"):
        if record["kind"] in ("train", "validation"):
            epochs.setdefault(record["epoch"], {}).update(record, kind="epoch")
    validated = [record for record in epochs.values() if "miou" in record]
    if validated:
        learning_curve(config.run_dir / "learning_curve.png", validated)
    return curves
