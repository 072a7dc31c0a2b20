"""The field's table of a sweep: folds across, deviation over seeds, the paper beside it."""

import itertools
import re
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mgcl.files import write_text
from mgcl.report import published, tables
from mgcl.report.tables import NOTHING, Table
from mgcl.sweep.jobs import ABLATIONS, FULL, NO_PARTS, Job, read_report

if TYPE_CHECKING:
    from mgcl.config import Config


MODEL = "MGCL"  # the model's rows in a report start with this, whichever the epoch
HSNET = "HSNet's idea with MGCD's decoder"


class Score(NamedTuple):
    """One row of one run's report."""

    ablation: str
    method: str
    shots: int
    threshold: str
    """0.5, or calibrated (the number is each run's own)."""
    fold: int
    seed: int
    miou: float | None
    fb_iou: float | None


def write_tables(
    stem: Path, jobs: Sequence[Job], *, missing: Sequence[str]
) -> tuple[str, list[Path]]:
    """Write the tables of complete runs as STEM.md, .csv and .tex, and all scores as STEM_runs.csv.

    Returns:
        the tables as text for the terminal, and the paths written.
    """
    scores = read_scores(jobs)
    notes = _notes(jobs, missing)
    named = {"Results": field_table(scores, jobs[0].config if jobs else None)}
    if any(job.ablation != FULL for job in jobs):
        named["Ablations"] = ablation_table(scores)
    marked = [f"## {name}\n\n{tables.markdown(table)}\n" for name, table in named.items()]
    latex = [tables.latex(t, caption=" ".join([f"{n}.", *notes])) for n, t in named.items()]
    files = {
        ".md": "# Sweep\n\n" + "".join(marked) + "".join(f"- {note}\n" for note in notes),
        ".tex": "\n".join(latex),
        ".csv": tables.comma_separated(named["Results"]),
        "_runs.csv": tables.comma_separated(_runs_table(scores)),
    }
    if "Ablations" in named:
        files["_ablations.csv"] = tables.comma_separated(named["Ablations"])
    paths = [stem.with_name(stem.name + ending) for ending in files]
    for path, content in zip(paths, files.values(), strict=True):
        write_text(path, content)
    plain = [f"{name}\n\n{tables.text(table)}\n" for name, table in named.items()]
    return "".join(plain) + "".join(textwrap.fill(n, 120) + "\n" for n in notes), paths


def read_scores(jobs: Iterable[Job]) -> list[Score]:
    """Every row of every run's report, for the shots that the sweep asks for."""
    return [
        Score(
            ablation=job.ablation,
            method=method,
            shots=row["shots"],
            threshold=row["threshold"].partition(" ")[0],
            fold=job.fold,
            seed=job.seed,
            miou=row["miou"],
            fb_iou=row["fb_iou"],
        )
        for job in jobs
        for row in read_report(job)["rows"]
        for method in _methods(row["method"])
        if row["shots"] in job.config.test.shots
    ]


def field_table(scores: Sequence[Score], config: "Config | None") -> Table:
    """The whole model: mIoU of each fold, their mean, the paper's and the difference to it.

    Args:
        scores: of all runs.
        config: of any of them; its benchmark and backbone find the published numbers.
    """
    whole = [score for score in scores if score.ablation == FULL]
    folds = sorted({score.fold for score in whole})
    papers = {shots: _paper(config, shots, folds) for shots in sorted({s.shots for s in whole})}
    beside = ["paper", "difference"] if any(papers.values()) else []
    rows = []
    for shots, paper in papers.items():
        for (method, threshold), group in _groups([s for s in whole if s.shots == shots]):
            *miou, fb_iou = _cells(group, folds)
            theirs = _beside(group, folds, paper if method.startswith(MODEL) else [])
            rows.append([method, str(shots), threshold, *miou, *theirs[: len(beside)], fb_iou])
        if paper:
            *cells, fb_iou = map(tables.number, paper)
            rows.append([f"{MODEL}, the paper", str(shots), "0.5", *cells, "", "", fb_iou])
    return Table(["method", "shots", "threshold", *_fold_names(folds), *beside, "FB-IoU"], rows)


def ablation_table(scores: Sequence[Score]) -> Table:
    """The model with parts of it switched off: what is on, and mIoU of each fold and their mean."""
    model = [score for score in scores if score.method.startswith(MODEL)]
    folds = sorted({score.fold for score in model})
    parts = ["MGFE", "FBC", "decoder masks"]
    rows = []
    for shots, (name, on) in itertools.product(
        sorted({score.shots for score in model}), reversed(ABLATIONS.items())
    ):
        chosen = [s for s in model if s.shots == shots and s.ablation == name]
        for (method, threshold), group in _groups(chosen):
            called = method.replace(MODEL, HSNET) if name == NO_PARTS else method
            ticks = ["✓" if part else "" for part in on]
            rows.append([called, *ticks, str(shots), threshold, *_cells(group, folds)])
    return Table(["method", *parts, "shots", "threshold", *_fold_names(folds), "FB-IoU"], rows)


def _methods(name: str) -> list[str]:
    """A report's method without its epoch; the best epoch may be the last one, too."""
    plain = re.sub(r" \(epoch \d+\)$", "", name)
    best, equal, last = plain.partition("best = last")
    return [f"{best}best{last}", f"{best}last{last}"] if equal else [plain]


def _groups(scores: Iterable[Score]) -> Iterable[tuple[tuple[str, str], list[Score]]]:
    """The scores of each (method, threshold), in the order of the report."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.method, score.threshold), []).append(score)
    methods = [method for method, _ in groups]
    return sorted(groups.items(), key=lambda group: methods.index(group[0][0]))


def _cells(scores: Sequence[Score], folds: Sequence[int]) -> list[str]:
    """The mIoU of each fold and their mean, with deviations, and the mean FB-IoU."""
    miou = map(_spread, _by_fold(scores, folds, "miou"))
    return [*miou, tables.number(_mean(_by_fold(scores, folds, "fb_iou")[-1]))]


def _by_fold(scores: Sequence[Score], folds: Sequence[int], key: str) -> list[list[float]]:
    """The seeds' numbers in each fold, then the means over folds of seeds that have them all."""
    found = {
        (score.seed, score.fold): getattr(score, key)
        for score in scores
        if getattr(score, key) is not None
    }
    seeds = sorted({score.seed for score in scores})
    columns = [[found[s, f] for s in seeds if (s, f) in found] for f in folds]
    whole = [s for s in seeds if all((s, f) in found for f in folds)]
    return [*columns, [statistics.fmean(found[s, f] for f in folds) for s in whole]]


def _spread(values: Sequence[float]) -> str:
    """Mean, and the sample standard deviation where there are several."""
    if not values:
        return NOTHING
    mean = tables.number(statistics.fmean(values))
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _paper(config: "Config | None", shots: int, folds: Sequence[int]) -> list[float | None]:
    """The mIoU of each fold, their mean, the mean FB-IoU; empty where the paper has nothing."""
    if config is None:
        return []
    key = (config.data.benchmark, config.model.backbone)
    found = [published.find(*key, shots=shots, fold=fold) for fold in folds]
    facts = [fact for fact in found if fact]
    if not facts or len(facts) < len(folds):
        return []
    mious = [fact.miou for fact in facts]
    mean = facts[0].mean_miou if [*folds] == [0, 1, 2] else _mean(mious)
    return [*mious, mean, _mean([fact.fb_iou for fact in facts])]


def _beside(
    scores: Sequence[Score], folds: Sequence[int], paper: Sequence[float | None]
) -> list[str]:
    """The paper's mean mIoU, and how far ours is over it."""
    ours, theirs = _mean(_by_fold(scores, folds, "miou")[-1]), paper[-2] if paper else None
    if ours is None or theirs is None:
        return [tables.number(theirs), NOTHING]
    return [tables.number(theirs), f"{ours - theirs:+.2f}"]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if values and len(known) == len(values) else None


def _fold_names(folds: Sequence[int]) -> list[str]:
    return [*(f"fold {fold}" for fold in folds), "mean"]


def _runs_table(scores: Sequence[Score]) -> Table:
    rows = [[*map(str, score[:6]), *map(tables.number, score[6:])] for score in scores]
    return Table(Score._fields, rows)


def _notes(jobs: Sequence[Job], missing: Sequence[str]) -> list[str]:
    seeds = ", ".join(map(str, sorted({job.seed for job in jobs})))
    notes = [
        f"mIoU in percent; train.seed: {seeds or 'none'}; ± is the sample standard deviation over "
        "seeds, that of the mean is over the seeds' means."
    ]
    if jobs and any(_paper(jobs[0].config, shots, [0]) for shots in jobs[0].config.test.shots):
        notes.append(
            f"Paper: {published.SOURCE}; published, not measured here (FB-IoU: its authors' logs)."
        )
    return notes + ([f"Missing: {', '.join(missing)}."] if missing else [])
