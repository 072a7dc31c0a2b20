"""The files of a report."""

import os
from pathlib import Path

from mgcl.files import write_json, write_text
from mgcl.report import tables
from mgcl.report.page import to_html
from mgcl.report.results import PLOTS, Report
from mgcl.report.text import _class_table, _episode_table, _table, to_json, to_markdown


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
