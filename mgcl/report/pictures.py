"""The pictures of a test: panels of episodes, curves over thresholds and epochs."""

from typing import TYPE_CHECKING, Any

from mgcl.build import resolve_threshold
from mgcl.config import Config
from mgcl.datasets.sets import EpisodeSet
from mgcl.engine.forward import Setup
from mgcl.files import read_records
from mgcl.visualize.episodes import draw_panels

if TYPE_CHECKING:
    from mgcl.report.score import Result


def write_panels(config: Config, result: "Result", part: EpisodeSet, setup: Setup) -> list[str]:
    """Pictures of the best, the median and the worst episodes; paths relative to the run.

    They replace those of an earlier test.
    """
    from mgcl.images.write import write_png

    for old in config.run_dir.glob(f"panels/{result.shots}shot_*.png"):
        old.unlink()
    threshold = resolve_threshold(config.test.threshold, result.candidate.threshold)
    order = result.evaluation.episode_iou(threshold).argsort(descending=True, stable=True).tolist()
    written = []
    middle = max(0, (len(order) - config.test.panels) // 2)
    for kind, first in ("best", 0), ("median", middle), ("worst", -config.test.panels):
        places = range(len(order))[first:][: config.test.panels]
        ids = [part.ids[order[place]] for place in places]
        panels = draw_panels(
            result.candidate.model,
            part.dataset,
            ids,
            setup=setup,
            threshold=threshold,
            vote_share=config.test.vote_share,
        )
        for number, (name, panel) in enumerate(panels, start=1):
            path = f"panels/{result.shots}shot_{kind}_{number}_{name}.png"
            write_png(config.run_dir / path, panel)
            written.append(path)
    return written


def write_curves(config: Config, results: list["Result"]) -> dict[str, dict[float, float]]:
    """The plots of mIoU over the threshold and over the epochs; returns the former's numbers."""
    from mgcl.report.results import precision_recall_curve
    from mgcl.visualize.plots import learning_curve, precision_recall_plot, threshold_plot

    first = results[0].candidate
    decisive = [r for r in results if r.candidate is first]
    curves = {f"{r.shots}-shot": r.evaluation.curve() for r in decisive}
    marks = {"argmax 0.5": 0.5}
    if first.threshold is not None:
        marks[f"calibrated {first.threshold:.2f}"] = first.threshold
    title = f"{first.name}: mIoU over the decision threshold"
    threshold_plot(config.run_dir / "threshold.png", curves, marks=marks, title=title)
    precision_recall_plot(
        config.run_dir / "precision_recall.png",
        {f"{r.shots}-shot": precision_recall_curve(r) for r in decisive},
        marks=marks,
        title=f"{first.name}: precision over recall, mean over the classes",
    )
    epochs: dict[int, dict[str, Any]] = {}
    for record in read_records(config.run_dir / "log.jsonl"):
        if record["kind"] in ("train", "validation"):
            epochs.setdefault(record["epoch"], {}).update(record, kind="epoch")
    validated = [record for record in epochs.values() if "miou" in record]
    if validated:
        learning_curve(config.run_dir / "learning_curve.png", validated)
    return curves
