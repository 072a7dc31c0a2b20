"""The report of a test: the field's table, the facts that it depends on, curves and panels."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mgcl import published, tables
from mgcl.files import write_json, write_text
from mgcl.report_html import PUBLISHED, to_html

if TYPE_CHECKING:
    from mgcl.metrics import Scores

PLOTS = ("threshold.png", "precision_recall.png", "learning_curve.png")
CLASSES_ACROSS = 5  # class columns that fit a terminal; more make a further table


class Row(NamedTuple):
    """The scores of one method at one number of shots and one decision threshold."""

    method: str
    shots: int
    cut: str
    scores: "Scores"


class EpisodeRow(NamedTuple):
    """One episode of the test."""

    method: str
    shots: int
    cut: str
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
    cut: str
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
    """Name -> {cut: mIoU}."""
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


def to_markdown(report: Report, *, plots: Sequence[str] = PLOTS) -> str:
    """The report as Markdown; pictures (`plots`, then the panels) are linked relative to it."""
    parts = [f"# {report.title}\n", "## Results\n", "Percent.\n"]
    parts += [tables.markdown(_table(report, list(report.class_names), report.rows))]
    parts += ["".join(f"- {note}\n" for note in report.notes)] if report.notes else []
    parts += _published_markdown(report)
    if report.classes:
        parts += ["## Precision and recall\n", tables.markdown(_class_table(report))]
    for heading, pictures in ("## Curves\n", plots), ("## Episodes\n", report.panels):
        parts += [heading] if pictures else []
        parts += [f"![{_words(picture)}]({picture})\n" for picture in pictures]
    facts = tables.Table(["fact", "value"], list(report.facts.items()))
    parts += ["## What the numbers depend on\n", tables.markdown(facts)]
    return "\n".join(parts)


def to_text(report: Report) -> str:
    """The table for a terminal, at most 120 columns wide."""
    ids = list(report.class_names)
    chunks = [ids[i : i + CLASSES_ACROSS] for i in range(0, len(ids), CLASSES_ACROSS)]
    parts = [report.title + "\n"]
    parts += [tables.text(_table(report, chunk, report.rows)) for chunk in chunks or [[]]]
    rows = report.published_rows()
    if rows:
        parts.append(f"Published, not measured here ({published.SOURCE}):\n")
        parts += [tables.text(_table(report, chunk, rows)) for chunk in chunks or [[]]]
    parts.append("".join(f"- {note}\n" for note in report.notes))
    return "\n".join(parts)


def to_json(report: Report) -> dict[str, Any]:
    """The report for programs; class IoUs by class name, null where there is no number."""
    return {
        "title": report.title,
        "facts": dict(report.facts),
        "classes": {name: class_id for class_id, name in report.class_names.items()},
        "rows": [
            {
                "method": row.method,
                "shots": row.shots,
                "cut": row.cut,
                "miou": _finite(row.scores.miou),
                "fb_iou": _finite(row.scores.fb_iou),
                "class_iou": {
                    name: _finite(row.scores.class_iou.get(class_id))
                    for class_id, name in report.class_names.items()
                },
            }
            for row in report.rows
        ],
        "precision_recall": [
            {
                **row._asdict(),
                "class": report.class_names[row.class_id],
                "precision": _finite(row.precision),
                "recall": _finite(row.recall),
            }
            for row in report.classes
        ],
        "curves": {
            name: {str(cut): _finite(miou) for cut, miou in curve.items()}
            for name, curve in report.curves.items()
        },
        "notes": list(report.notes),
        "panels": list(report.panels),
    }


def write_report(folder: str | os.PathLike[str], report: Report) -> None:
    """Write report.md, report.html, episodes.csv and report.json into `folder`, each atomically.

    report.json comes last: where it exists, the test is complete. Plots that are in the folder
    already are embedded.
    """
    plots = [plot for plot in PLOTS if (Path(folder) / plot).exists()]
    write_text(Path(folder) / "report.md", to_markdown(report, plots=plots))
    class_ids, rows = list(report.class_names), report.published_rows()
    page = to_html(
        report,
        Path(folder),
        table=_table(report, class_ids, report.rows),
        published=_table(report, class_ids, rows) if rows else None,
        classes=_class_table(report) if report.classes else None,
        plots=plots,
    )
    write_text(Path(folder) / "report.html", page)
    if report.episodes:
        write_text(Path(folder) / "episodes.csv", tables.comma_separated(_episode_table(report)))
    write_json(Path(folder) / "report.json", to_json(report))


class _Cells(NamedTuple):
    """As `Scores`, but a number may be missing."""

    miou: float | None
    fb_iou: float | None
    class_iou: dict[int, float]


def _table(report: Report, class_ids: Sequence[int], rows: Sequence[Any]) -> tables.Table:
    names = [report.class_names[class_id].replace("_", " ") for class_id in class_ids]
    header = ["method", "shots", "cut", *names, "mIoU", "FB-IoU"]
    lines = []
    for method, shots, cut, scores in rows:
        values = [scores.class_iou.get(class_id) for class_id in class_ids]
        numbers = [*values, scores.miou, scores.fb_iou]
        lines.append([method, str(shots), cut, *map(tables.number, numbers)])
    return tables.Table(header, lines)


def _class_table(report: Report) -> tables.Table:
    """Precision and recall of the first method: a row a class, two columns a row of the results."""
    header, lines = ["class", "episodes"], dict[int, list[str]]()
    for row in report.classes:
        if row.method == report.decisive:
            how = f"{row.shots}-shot, {row.cut}:"
            header += [f"{how} {what}" for what in ("precision", "recall")] * (
                f"{how} recall" not in header
            )
            name = report.class_names[row.class_id].replace("_", " ")
            line = lines.setdefault(row.class_id, [name, str(row.episodes)])
            line += [tables.number(row.precision), tables.number(row.recall)]
    return tables.Table(header, [*lines.values()])


def _episode_table(report: Report) -> tables.Table:
    rows = [
        [r.method, str(r.shots), r.cut, str(r.episode_id), report.class_names[r.class_id]]
        + [f"{r.iou:.4f}", r.query, r.supports]
        for r in report.episodes
    ]
    header = ["method", "shots", "cut", "episode", "class", "iou", "query", "supports"]
    return tables.Table(header, rows)


def _published_markdown(report: Report) -> list[str]:
    rows = report.published_rows()
    if not rows:
        return []
    return [
        "## Published, not measured here\n",
        PUBLISHED + "\n",
        tables.markdown(_table(report, list(report.class_names), rows)),
    ]


def _words(picture: str) -> str:
    """What a picture's name says: "panels/1shot_best_1_12_ship.png" -> "1shot best 1 12 ship"."""
    return Path(picture).stem.replace("_", " ")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
