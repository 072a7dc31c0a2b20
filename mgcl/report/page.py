"""What report.html shows, for the template page.html beside this file: a desk, a phone, paper."""

import base64
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mgcl.report import published
from mgcl.report.records import EpisodeRow, Panel, Report, Row
from mgcl.report.tables import number, printed
from mgcl.report.text import (
    ABSENT_WORDS,
    absent_table,
    class_table,
    facts_table,
    presence_table,
    published_table,
    results_table,
)

if TYPE_CHECKING:
    from PIL.Image import Image

BINS = 10  # of the histogram of episode IoUs
COLOURS = (
    "#0b63c5",
    "#7fb2ec",
    "#e8590c",
    "#f5a97a",
    "#2b8a3e",
    "#8fcf9c",
    "#9c36b5",
    "#d39bdf",
    "#0b7285",
    "#7cc5cf",
)


class Picture(NamedTuple):
    """A picture inside the page."""

    url: str
    width: int
    height: int
    words: str


def to_html(report: Report, folder: Path, *, plots: Sequence[str] = ()) -> str:
    """The whole report as one page that loads nothing.

    Args:
        report: what the test found out.
        folder: where the report's panels and plots lie; panels that are missing are left out.
        plots: names of the plots.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, printed=printed, breakable=_breakable)
    decisive = [row for row in report.rows if row.condition.method == report.decisive]
    return environment.get_template("page.html").render(
        report=report,
        decisive=decisive,
        results=results_table(report),
        published=published_table(report),
        published_words=published.WORDS,
        legend=list(zip(decisive, itertools.cycle(COLOURS), strict=False)),
        bars=list(_class_bars(report, decisive)),
        classes=class_table(report) if report.classes else None,
        absent=absent_table(report) if report.absent else None,
        presence=presence_table(report),
        absent_words=ABSENT_WORDS,
        histograms=list(_histograms(report.episodes)),
        plots=[_picture(folder / plot, plot) for plot in plots],
        panels=list(_panel_groups(report, folder)),
        facts=facts_table(report),
    )


def _breakable(text: str) -> str:
    """With a soft hyphen here and there in words that are too long for the head of a column."""
    return re.sub(r"\w{13}(?=\w{3})", "\\g<0>\u00ad", text)


def _class_bars(report: Report, rows: Sequence[Row]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each class its bars: IoU, share of the track, the paper's IoU."""
    papers = {c.shots: scores.class_iou for c, scores in report.published_rows()}
    for class_id in report.class_names:
        bars = []
        for row, colour in zip(rows, itertools.cycle(COLOURS), strict=False):
            iou = row.scores.class_iou.get(class_id)
            share = min(100.0, max(0.0, iou)) if iou is not None and iou == iou else 0.0
            paper = papers.get(row.condition.shots, {}).get(class_id)
            bars.append({"iou": iou, "share": share, "colour": colour, "paper": paper})
        yield report.class_name(class_id), bars


def _histograms(episodes: Sequence[EpisodeRow]) -> Iterator[dict[str, Any]]:
    """How many episodes lie in each tenth of IoU under each condition."""
    for condition in dict.fromkeys(row.condition for row in episodes):
        ious = [row.iou for row in episodes if row.condition == condition]
        counts = [0] * BINS
        for iou in ious:
            counts[min(BINS - 1, int(iou * BINS / 100))] += 1
        columns = [
            {"count": count, "height": count / max(counts), "start": 100 * place // BINS}
            for place, count in enumerate(counts)
        ]
        yield {"condition": condition, "columns": columns, "mean": sum(ious) / len(ious)}


def _panel_groups(report: Report, folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The panels that are there, by heading; each as its tiles, row by row."""
    images = {
        (row.condition.shots, row.episode_id): row
        for row in report.episodes
        if row.condition.method == report.decisive
    }
    there = [panel for panel in report.panels if (folder / panel.path).exists()]
    for heading, group in itertools.groupby(there, key=lambda panel: panel.group):
        yield heading, [_panel(report, p, folder, images.get((p.shots, p.episode))) for p in group]


def _panel(report: Report, panel: Panel, folder: Path, row: EpisodeRow | None) -> dict[str, Any]:
    from PIL import Image

    name = report.class_name(panel.class_id)
    with Image.open(folder / panel.path) as image:
        boxes = panel.boxes or (((0, 0, *image.size),),)
        rows = [
            [
                _embedded(image.crop(box), f"{name}, row {y}, picture {x}")
                for x, box in enumerate(b, 1)
            ]
            for y, b in enumerate(boxes, 1)
        ]
    return {
        "panel": panel,
        "name": name,
        "rows": rows,
        "images": row if row and row.query else None,
    }


def _picture(path: Path, words: str) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        return _embedded(image, words)


def _embedded(image: "Image", words: str) -> Picture:
    """As WebP inside the page: it takes a fifth of the PNG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", quality=85, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{data}", *image.size, words)
