"""Curves over the threshold and over the epochs, drawn without a display."""

import itertools
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mgcl.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 4.8  # inches
COLOURS = ("#0b63c5", "#e8590c", "#2b8a3e", "#9c36b5", "#c92a2a", "#0b7285", "#5c5f66", "#e67700")


def threshold_plot(
    path: str | os.PathLike[str],
    curves: Mapping[str, Mapping[float, float]],
    *,
    marks: Mapping[str, float],
    title: str,
) -> None:
    """Draw mIoU over the decision threshold into a PNG, atomically.

    Args:
        path: where to write.
        curves: name -> {threshold: mIoU in percent}; one line each, its best threshold marked.
        marks: words -> threshold; a vertical line each.
        title: above the plot.
    """
    figure, (axes,) = _canvas(4.2)
    for colour, (name, curve) in zip(itertools.cycle(COLOURS), curves.items(), strict=False):
        thresholds = sorted(curve)
        axes.plot(thresholds, [curve[c] for c in thresholds], color=colour, label=name, linewidth=2)
        if thresholds:
            best = max(thresholds, key=lambda c: curve[c])
            axes.plot([best], [curve[best]], "o", color=colour, markersize=6)
    axes.set(xlim=(0, 1), xlabel="foreground where its probability is over", ylabel="mIoU, %")
    axes.set_ylim(bottom=0)
    for dash, (words, threshold) in zip(itertools.count(1), sorted(marks.items()), strict=False):
        style = (0, (2 * dash, 2))
        axes.axvline(threshold, color="#495057", linestyle=style, linewidth=1.2, label=words)
    _finish(figure, axes, path, title)


def precision_recall_plot(
    path: str | os.PathLike[str],
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    marks: Mapping[str, float],
    title: str,
) -> None:
    """Draw precision over recall into a PNG, atomically.

    Args:
        path: where to write.
        curves: name -> (threshold, precision, recall) in percent; one line each.
        marks: words -> threshold; a point on every line each.
        title: above the plot.
    """
    figure, (axes,) = _canvas(4.2)
    for colour, (name, points) in zip(itertools.cycle(COLOURS), curves.items(), strict=False):
        axes.plot([p[2] for p in points], [p[1] for p in points], color=colour, label=name, lw=2)
    for marker, (words, threshold) in zip("osD^", sorted(marks.items()), strict=False):
        at = [p for points in curves.values() for p in points if p[0] == threshold]
        look: dict[str, Any] = {
            "color": "#1c1e22",
            "markerfacecolor": "white",
            "label": words,
            "zorder": 3,
        }
        axes.plot([p[2] for p in at], [p[1] for p in at], marker, markersize=6.5, **look)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="recall, %", ylabel="precision, %")
    _finish(figure, axes, path, title)


def learning_curve(path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]]) -> None:
    """Draw loss, mIoU and FB-IoU over the epochs into a PNG, atomically.

    Args:
        path: where to write.
        records: log.jsonl's, an epoch's training and validation in one of kind "epoch"; others are
            passed over. A score that an epoch does not have (no validation there) leaves no point.
            Epochs count from 0 in the log and from 1 in the picture.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [record for record in records if record["kind"] == "epoch"]
    figure, (above, below) = _canvas(6.4, rows=2)
    _line(above, epochs, "loss", color=COLOURS[6], label="training loss")
    for colour, score, name in ((0, "miou", "mIoU"), (1, "fb_iou", "FB-IoU")):
        calibrated = f"{score}_calibrated"
        _line(
            below, epochs, calibrated, color=COLOURS[colour], label=f"{name}, calibrated threshold"
        )
        _line(
            below, epochs, score, color=COLOURS[colour], label=f"{name}, threshold 0.5", dashed=True
        )
    above.set_ylabel("loss")
    below.set(xlabel="epoch", ylabel="%")
    below.set_ylim(bottom=0)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(figure, above, path, "Training, and validation after each epoch")


def _line(
    axes: "Axes",
    records: Sequence[Mapping[str, Any]],
    key: str,
    *,
    dashed: bool = False,
    **look: Any,
) -> None:
    points = [(r["epoch"] + 1, r[key]) for r in records if r.get(key) is not None]
    if points:
        x, y = zip(*points, strict=True)
        marker = "o" if len(points) < 60 else ""
        style = (0, (4, 2)) if dashed else "-"
        axes.plot(x, y, marker=marker, markersize=3.5, linewidth=1.8, linestyle=style, **look)


def _canvas(height: float, *, rows: int = 1) -> tuple["Figure", Sequence["Axes"]]:
    """Axes one above the other, with words that can be read on a telephone too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = (2, 3) if rows == 2 else (1,)
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)
    for axes in grid[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e9ecef", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, list(grid[:, 0])


def _finish(figure: "Figure", top: "Axes", path: str | os.PathLike[str], title: str) -> None:
    """Title above, one legend for all axes below, where it hides no curve."""
    top.set_title(textwrap.fill(title, 44), loc="left", fontsize=11, fontweight="bold")
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles, labels = (list(itertools.chain(*part)) for part in zip(*found, strict=True))
    if handles:
        columns = 2 if max(map(len, labels)) < 24 else 1
        look: dict[str, Any] = {"frameon": False, "fontsize": 10, "handlelength": 3.2}
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, **look)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
