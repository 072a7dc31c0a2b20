"""The files of a report."""

import os
from pathlib import Path

from mgcl.files import write_json, write_text
from mgcl.report import tables
from mgcl.report.page import to_html
from mgcl.report.records import Report
from mgcl.report.text import episode_table, to_json, to_markdown

PLOTS = ("threshold.png", "precision_recall.png", "learning_curve.png")


def write_report(folder: str | os.PathLike[str], report: Report) -> None:
    """Write report.md, report.html, episodes.csv and report.json into `folder`, each atomically.

    report.json comes last: where it exists, the test is complete. Plots that are in the folder
    already are embedded.
    """
    folder = Path(folder)
    plots = [plot for plot in PLOTS if (folder / plot).exists()]
    write_text(folder / "report.md", to_markdown(report, plots=plots))
    write_text(folder / "report.html", to_html(report, folder, plots=plots))
    if report.episodes:
        write_text(folder / "episodes.csv", tables.comma_separated(episode_table(report)))
    write_json(folder / "report.json", to_json(report))
