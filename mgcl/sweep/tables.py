"""The field's table of a sweep: folds across, deviation over seeds, the paper beside it."""

import itertools
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mgcl.files import write_text
from mgcl.report import published, tables
from mgcl.report.records import CALIBRATED, Condition, Method
from mgcl.report.tables import Cell, Difference, Spread, Table
from mgcl.sweep.jobs import ABLATIONS, FULL, NO_PARTS, Job, read_rows

if TYPE_CHECKING:
    from mgcl.config import Config


MODEL = "MGCL"
HSNET = "HSNet's idea with MGCD's decoder"


class Score(NamedTuple):
    """One row of one run's report."""

    ablation: str
    fold: int
    seed: int
    condition: Condition
    miou: float | None
    fb_iou: float | None


class Group(NamedTuple):
    """The runs' scores under one condition, whatever the epoch and the calibrated number."""

    method: Method
    rule: str
    threshold: str
    scores: list[Score]

    @property
    def name(self) -> str:
        """For print, with the rule where there is one beside the published vote."""
        return self.method.words + (f", {self.rule}" if self.rule not in ("", "vote") else "")


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
        Score(job.ablation, job.fold, job.seed, condition, miou, fb_iou)
        for job in jobs
        for condition, miou, fb_iou in read_rows(job)
        if condition.shots in job.config.test.shots
    ]


def field_table(scores: Sequence[Score], config: "Config | None") -> Table:
    """The whole model: mIoU of each fold, their mean, the paper's and the difference to it.

    Args:
        scores: of all runs.
        config: of any of them; its benchmark and backbone find the published numbers.
    """
    whole = [score for score in scores if score.ablation == FULL]
    folds = sorted({score.fold for score in whole})
    papers = {shots: _paper(config, shots, folds) for shots in _shots(whole)}
    beside = ["paper", "over paper"] if any(papers.values()) else []
    rows: list[list[Cell]] = []
    for shots, paper in papers.items():
        for group in _groups(whole, shots):
            *miou, fb_iou = _cells(group.scores, folds)
            theirs = _beside(group.scores, folds, paper if group.method.name == MODEL else [])
            rows.append([group.name, shots, group.threshold, *miou])
            rows[-1] += [*theirs[: len(beside)], fb_iou]
        if paper:
            *cells, fb_iou = paper
            rows.append([f"{MODEL}, the paper", shots, "0.5", *cells, None, None, fb_iou])
    return Table(["method", "shots", "threshold", *_fold_names(folds), *beside, "FB-IoU"], rows)


def ablation_table(scores: Sequence[Score]) -> Table:
    """The model with parts of it switched off: what is on, and mIoU of each fold and their mean."""
    model = [score for score in scores if score.condition.method.name == MODEL]
    folds = sorted({score.fold for score in model})
    parts = ["MGFE", "FBC", "decoder masks"]
    rows: list[list[Cell]] = []
    for shots, (name, on) in itertools.product(_shots(model), reversed(ABLATIONS.items())):
        for group in _groups([s for s in model if s.ablation == name], shots):
            if name == NO_PARTS:
                group = group._replace(method=group.method._replace(name=HSNET))
            cells = _cells(group.scores, folds)
            rows.append([group.name, *on, shots, group.threshold, *cells])
    return Table(["method", *parts, "shots", "threshold", *_fold_names(folds), "FB-IoU"], rows)


def _shots(scores: Iterable[Score]) -> list[int]:
    return sorted({score.condition.shots for score in scores})


def _groups(scores: Sequence[Score], shots: int) -> list[Group]:
    """The scores with so many supports, by condition, in the order of the reports.

    Best and last are one group where they are one checkpoint in every run; where only in some, the
    scores of these runs count in both groups.
    """
    scores = [score for score in scores if score.condition.shots == shots]
    groups: dict[Any, Group] = {}
    for name in dict.fromkeys(score.condition.method.name for score in scores):
        named = [score for score in scores if score.condition.method.name == name]
        found = dict.fromkeys(score.condition.method.checkpoints for score in named)
        single = [(c,) for c in dict.fromkeys(itertools.chain(*found))]
        for checkpoints in found if len(found) == 1 else single:
            method = Method(name, checkpoints)  # their epochs differ
            for score in named:
                if {*checkpoints} <= {*score.condition.method.checkpoints}:
                    key = (method, score.condition.rule, _threshold(score.condition))
                    groups.setdefault(key, Group(*key, [])).scores.append(score)
    return list(groups.values())


def _threshold(condition: Condition) -> str:
    """For print; the calibrated number is each run's own."""
    kind = condition.threshold_kind
    return kind if kind == CALIBRATED else condition.decision


def _cells(scores: Sequence[Score], folds: Sequence[int]) -> list[Cell]:
    """The mIoU of each fold and their mean, and the mean FB-IoU, with deviations."""
    miou = map(_spread, _by_fold(scores, folds, "miou"))
    return [*miou, _spread(_by_fold(scores, folds, "fb_iou")[-1])]


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


def _spread(values: Sequence[float]) -> Cell:
    """Mean, and the sample standard deviation where there are several."""
    if len(values) > 1:
        return Spread(statistics.fmean(values), statistics.stdev(values))
    return statistics.fmean(values) if values else None


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
) -> list[Cell]:
    """The paper's mean mIoU, and how far ours is over it."""
    ours, theirs = _mean(_by_fold(scores, folds, "miou")[-1]), paper[-2] if paper else None
    return [theirs, None if ours is None or theirs is None else Difference(ours - theirs)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if values and len(known) == len(values) else None


def _fold_names(folds: Sequence[int]) -> list[str]:
    return [*(f"fold {fold}" for fold in folds), "mean"]


def _runs_table(scores: Sequence[Score]) -> Table:
    """Every score, for programs: a column for each field."""
    rows = [[s.ablation, s.fold, s.seed, *s.condition.cells(), s.miou, s.fb_iou] for s in scores]
    return Table(["ablation", "fold", "seed", *Condition.columns(), "miou", "fb_iou"], rows)


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
