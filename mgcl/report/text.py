"""The report as Markdown, as text for a terminal, and for programs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgcl.report import published, tables
from mgcl.report.page import PUBLISHED
from mgcl.report.results import PLOTS, Report

CLASSES_ACROSS = 5  # class columns that fit a terminal; more make a further table


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
                "threshold": row.threshold,
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
            name: {str(threshold): _finite(miou) for threshold, miou in curve.items()}
            for name, curve in report.curves.items()
        },
        "notes": list(report.notes),
        "panels": list(report.panels),
    }


def _table(report: Report, class_ids: Sequence[int], rows: Sequence[Any]) -> tables.Table:
    names = [report.class_names[class_id].replace("_", " ") for class_id in class_ids]
    header = ["method", "shots", "threshold", *names, "mIoU", "FB-IoU"]
    lines = []
    for method, shots, threshold, scores in rows:
        values = [scores.class_iou.get(class_id) for class_id in class_ids]
        numbers = [*values, scores.miou, scores.fb_iou]
        lines.append([method, str(shots), threshold, *map(tables.number, numbers)])
    return tables.Table(header, lines)


def _class_table(report: Report) -> tables.Table:
    """Precision and recall of the first method: a row a class, two columns a row of the results."""
    header, lines = ["class", "episodes"], dict[int, list[str]]()
    for row in report.classes:
        if row.method == report.decisive:
            how = f"{row.shots}-shot, {row.threshold}:"
            header += [f"{how} {what}" for what in ("precision", "recall")] * (
                f"{how} recall" not in header
            )
            name = report.class_names[row.class_id].replace("_", " ")
            line = lines.setdefault(row.class_id, [name, str(row.episodes)])
            line += [tables.number(row.precision), tables.number(row.recall)]
    return tables.Table(header, [*lines.values()])


def _episode_table(report: Report) -> tables.Table:
    rows = [
        [r.method, str(r.shots), r.threshold, str(r.episode_id), report.class_names[r.class_id]]
        + [f"{r.iou:.4f}", r.query, r.supports]
        for r in report.episodes
    ]
    header = ["method", "shots", "threshold", "episode", "class", "iou", "query", "supports"]
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
