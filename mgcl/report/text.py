"""The report as tables, as Markdown, as text for a terminal, and for programs."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mgcl.engine.absence import ALARM
from mgcl.report import published, tables
from mgcl.report.records import Condition, Report, finite
from mgcl.report.tables import Cell, Table

if TYPE_CHECKING:
    from mgcl.engine.absence import Absence, Outcome
    from mgcl.metrics import Scores
    from mgcl.report.records import Cells

CLASSES_ACROSS = 5  # class columns of a terminal's table, if their names are short


def to_markdown(report: Report, *, plots: Sequence[str] = ()) -> str:
    """The report as Markdown; pictures (`plots`, then the panels) are linked relative to it."""
    parts = [f"# {report.title}\n"]
    parts += [f"**Warning: {warning}.**\n" for warning in report.warnings]
    parts += ["".join(f"- {sentence}\n" for sentence in report.verdict)]
    parts += ["## Results\n", "Percent.\n", tables.markdown(results_table(report))]
    parts += ["".join(f"- {note}\n" for note in report.notes)] if report.notes else []
    if paper := published_table(report):
        parts += ["## Published, not measured here\n", published.WORDS + "\n"]
        parts += [tables.markdown(paper)]
    if report.classes:
        parts += ["## Precision and recall\n", tables.markdown(class_table(report))]
    if report.absent:
        parts += ["## Images without the class\n", ABSENT_WORDS + "\n"]
        parts += [tables.markdown(absent_table(report))]
        parts += [tables.markdown(told)] if (told := presence_table(report)) else []
    parts += ["## Curves\n"] if plots else []
    parts += [f"![{plot}]({plot})\n" for plot in plots]
    parts += ["## Episodes\n"] if report.panels else []
    for panel in report.panels:
        words = f"{panel.group} {panel.place}: {report.class_name(panel.class_id)}"
        parts.append(f"![{words}, episode {panel.episode}]({panel.path})\n")
    parts += ["## What the numbers depend on\n", tables.markdown(facts_table(report))]
    return "\n".join(parts)


def to_text(report: Report) -> str:
    """The table for a terminal, at most 120 columns wide, and above it who won."""
    parts = [report.title + "\n"]
    parts += ["".join(f"{sentence}\n" for sentence in report.verdict)] if report.verdict else []
    parts += _in_width(report, report.rows)
    if rows := report.published_rows():
        parts.append(f"Published, not measured here ({published.SOURCE}):\n")
        parts += _in_width(report, rows)
    if report.absent:
        parts += ["Images without the class:\n", tables.text(absent_table(report))]
        parts += [tables.text(told)] if (told := presence_table(report)) else []
    said = [f"WARNING: {warning}." for warning in report.warnings] + report.notes
    parts.append("".join(f"- {words}\n" for words in said))
    return "\n".join(parts)


def _in_width(report: Report, rows: "Sequence[tuple[Condition, Scores | Cells]]") -> list[str]:
    """The scores in as few tables as a terminal is wide enough for."""
    ids = list(report.class_names)
    for across in range(CLASSES_ACROSS, 0, -1):
        chunks = [ids[i : i + across] for i in range(0, len(ids), across)] or [[]]
        found = [tables.text(_scores_table(report, chunk, rows)) for chunk in chunks]
        if max(len(line) for text in found for line in text.splitlines()) <= tables.WIDTH:
            break
    return found


def to_json(report: Report) -> dict[str, Any]:
    """The report for programs; class IoUs by class name, null where there is no number."""
    setting, names = report.setting, report.class_names
    return {
        "title": report.title,
        **{key: getattr(setting, key) for key in ("benchmark", "fold", "backbone")},
        "data": {"root": setting.data_root, "origin": setting.origin},
        "facts": dict(report.facts),
        "verdict": list(report.verdict),
        "warnings": list(report.warnings),
        "notes": list(report.notes),
        "classes": {name: class_id for class_id, name in names.items()},
        "rows": [
            {
                **row.condition.to_json(),
                "miou": finite(row.scores.miou),
                "fb_iou": finite(row.scores.fb_iou),
                "class_iou": {
                    name: finite(row.scores.class_iou.get(class_id))
                    for class_id, name in names.items()
                },
            }
            for row in report.rows
        ],
        "precision_recall": [
            {
                **row.condition.to_json(),
                "class": names[row.class_id],
                "episodes": row.episodes,
                "iou": finite(row.iou),
                "precision": finite(row.precision),
                "recall": finite(row.recall),
            }
            for row in report.classes
        ],
        "absent": [row.condition.to_json() | _absence(row.absence) for row in report.absent],
        "curves": {
            name: {str(threshold): finite(miou) for threshold, miou in curve.items()}
            for name, curve in report.curves.items()
        },
        "panels": [
            {key: value for key, value in panel._asdict().items() if key != "boxes"}
            | {"class": names[panel.class_id]}
            for panel in report.panels
        ],
    }


def _absence(found: "Absence") -> dict[str, Any]:
    """Its fields, null where there is no number."""
    outcomes = {name: getattr(found, name) for name in ("plain", "decided")}
    return {
        "images": found.images,
        **{name: finite(getattr(found, name)) for name in ("auc", "kept", "kept_absent")},
        **{
            name: outcome and {key: finite(value) for key, value in outcome._asdict().items()}
            for name, outcome in outcomes.items()
        },
    }


def results_table(report: Report) -> Table:
    """The field's table: a row for each condition, a column for each class."""
    return _scores_table(report, list(report.class_names), report.rows)


def published_table(report: Report) -> Table | None:
    """The paper's rows, if it has any of this benchmark, backbone and fold."""
    rows = report.published_rows()
    return _scores_table(report, list(report.class_names), rows) if rows else None


def class_table(report: Report) -> Table:
    """Precision and recall of the decisive method: a row a class, two columns a condition."""
    ours = [row for row in report.classes if row.condition.method == report.decisive]
    several = len(_decision_header(ours)) > 1
    header, lines = ["class", "episodes"], dict[int, list[Cell]]()
    for condition in dict.fromkeys(row.condition for row in ours):
        rule = f" {condition.rule}," if several else ""
        how = f"{condition.shots}-shot,{rule} {condition.decision}:"
        header += [f"{how} precision", f"{how} recall"]
    for row in ours:
        line = lines.setdefault(row.class_id, [report.class_name(row.class_id), row.episodes])
        line += [row.precision, row.recall]
    return Table(header, list(lines.values()))


ABSENT_WORDS = (
    f"Each episode once more with a query that does not show its class. A false alarm has more "
    f"than {ALARM:.0%} of such an image marked; the mIoU is that of both kinds of images together, "
    "where all that is marked without the class counts in the union. Decided: nothing is marked "
    "where the class is taken to be absent, at the log-odds that keep nine of ten training images "
    "that show their class; AUC: pairs of images with and without the class that these log-odds "
    "put in right order."
)


def absent_table(report: Report) -> Table:
    """What images without the class cost, with and without a decision about presence."""
    header = ["method", "shots", *_decision_header(report.absent), "marked", "alarms", "mIoU"]
    decided = any(row.absence.decided for row in report.absent)
    lines: list[list[Cell]] = []
    for condition, found in report.absent:
        line: list[Cell] = [condition.method.words, condition.shots]
        line += [*_decision(condition, header), *_outcome(found.plain)]
        lines.append(line + _outcome(found.decided) * decided)
    return Table([*header, *["decided: marked", "alarms", "mIoU"] * decided], lines)


def presence_table(report: Report) -> Table | None:
    """How well images with and without the class are told apart; None where no method tells."""
    lines: dict[tuple[str, int], list[Cell]] = {}
    for condition, found in report.absent:
        if found.decided:  # alike at all thresholds
            key = (condition.method.words, condition.shots)
            lines[key] = [*key, found.auc, found.kept, found.kept_absent]
    header = ["method", "shots", "AUC", "kept with class", "kept without"]
    return Table(header, list(lines.values())) if lines else None


def _outcome(found: "Outcome | None") -> list[Cell]:
    return [found.marked, found.alarms, found.miou] if found else [None] * 3


def episode_table(report: Report) -> Table:
    """Every episode, for programs: a column for each field."""
    header = [*Condition.columns(), "episode", "class", "iou", "query", "supports"]
    rows = [
        [*row.condition.cells(), row.episode_id, report.class_names[row.class_id]]
        + [f"{row.iou:.4f}", row.query, " ".join(row.supports)]
        for row in report.episodes
    ]
    return Table(header, rows)


def facts_table(report: Report) -> Table:
    """What the numbers depend on."""
    return Table(["fact", "value"], [[key, value] for key, value in report.facts.items()])


def _scores_table(
    report: Report, ids: Sequence[int], rows: "Iterable[tuple[Condition, Scores | Cells]]"
) -> Table:
    header = ["method", "shots", *_decision_header(report.rows), "mIoU", "FB-IoU"]
    lines: list[list[Cell]] = [
        [
            condition.method.words,
            condition.shots,
            *_decision(condition, header),
            scores.miou,
            scores.fb_iou,
            *(scores.class_iou.get(class_id) for class_id in ids),
        ]
        for condition, scores in rows
    ]
    return Table([*header, *map(report.class_name, ids)], lines)


def _decision_header(rows: Iterable[Any]) -> list[str]:
    """A column for the rule stands where one method was tried with several."""
    used = {(row.condition.method, row.condition.shots, row.condition.rule) for row in rows}
    several = len({key[:2] for key in used}) < len(used)
    return ["rule"] * several + ["threshold"]


def _decision(condition: Condition, header: Sequence[str]) -> list[str]:
    return [condition.rule or "-"] * ("rule" in header) + [condition.decision]
