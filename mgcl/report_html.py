"""The report as one self-contained page: nothing is loaded from elsewhere, readable on a phone."""

import base64
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mgcl.published import SOURCE
from mgcl.tables import Table, number

if TYPE_CHECKING:
    from mgcl.report import EpisodeRow, Report, Row

PUBLISHED = f"mIoU from the paper's tables, FB-IoU and class IoUs from its authors' logs: {SOURCE}."
BINS = 10  # of the histogram of episode IoUs
COLOURS = ("#0b63c5", "#7fb2ec", "#e8590c", "#f5a97a", "#2b8a3e", "#8fcf9c")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1c1e22; background: #fff;
  max-width: 1100px; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .7rem; }}
h3 {{ font-size: 1rem; margin: 1.2rem 0 .3rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid #e4e7eb; text-align: left; }}
th {{ border-bottom: 2px solid #1c1e22; vertical-align: bottom; }}
td:first-child {{ min-width: 9rem; }}
.n {{ text-align: right; white-space: nowrap; }}
.cards {{ display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }}
.card {{ border: 1px solid #e4e7eb; border-radius: .5rem; padding: .5rem .9rem; }}
.card b {{ display: block; font-size: 1.6rem; line-height: 1.2; }}
.card small, .faint {{ color: #6b7079; }}
.bar {{ display: grid; grid-template-columns: clamp(5.5rem, 25%, 12rem) 1fr 2.8rem;
  gap: .5rem; align-items: center; font-size: .85rem; }}
.track {{ position: relative; background: #f1f3f5; height: .9rem; }}
.fill {{ display: block; height: 100%; }}
.tick {{ position: absolute; top: -.2rem; bottom: -.2rem; width: 3px; margin-left: -1px;
  background: #1c1e22; }}
.key {{ display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; }}
.legend span {{ margin-right: 1.1rem; white-space: nowrap; font-size: .85rem; }}
.bins {{ display: flex; align-items: flex-end; gap: 3px; height: 9rem; max-width: 36rem; }}
.bins div {{ flex: 1; text-align: center; font-size: .75rem; }}
.bins i {{ display: block; background: #0b63c5; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 0 0 1rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_html(
    report: "Report", folder: Path, *, table: Table, published: Table | None, plots: Sequence[str]
) -> str:
    """The whole report as one page.

    Args:
        report: what the test found out.
        folder: where the report's panels and plots lie; panels that are missing are left out.
        table: the rows of the test.
        published: the paper's rows, if it has any.
        plots: names of the plots.
    """
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _cards(report.rows),
        "<h2>Results, percent</h2>",
        _table(table),
        _list(report.notes),
    ]
    if published:
        parts += ["<h2>Published, not measured here</h2>", f"<p>{escape(PUBLISHED)}</p>"]
        parts += [_table(published)]
    parts += ["<h2>IoU of each class, percent</h2>", *_class_bars(report)]
    parts += _histograms(report.episodes)
    parts += _pictures(report, folder, plots)
    facts = Table(["fact", "value"], list(report.facts.items()))
    parts += ["<h2>What the numbers depend on</h2>", _table(facts)]
    return PAGE.format(title=escape(report.title), body="\n".join(parts))


def _of_first_method(rows: "Sequence[Row]") -> "list[Row]":
    """The decisive rows: a report names its first method first."""
    return [row for row in rows if row.method == rows[0].method]


def _cards(rows: "Sequence[Row]") -> str:
    cards = [
        f'<div class="card"><small>{row.shots}-shot, cut {escape(row.cut)}</small>'
        f"<b>{number(row.scores.miou)}</b>"
        f"<small>mIoU, FB-IoU {number(row.scores.fb_iou)}</small></div>"
        for row in _of_first_method(rows)
    ]
    method = f'<p class="faint">{escape(rows[0].method)}</p>' if rows else ""
    return f'{method}<div class="cards">{"".join(cards)}</div>'


def _table(table: Table) -> str:
    classes = [' class="n"' if right else "" for right in table.is_number]

    def line(cells: Sequence[str], tag: str) -> str:
        marked = zip(cells, classes, strict=True)
        return "<tr>" + "".join(f"<{tag}{c}>{escape(t)}</{tag}>" for t, c in marked) + "</tr>"

    body = "\n".join(line(row, "td") for row in table.rows)
    return f'<div class="wide"><table>\n{line(table.header, "th")}\n{body}\n</table></div>'


def _list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _class_bars(report: "Report") -> Iterator[str]:
    """A bar for each class and row of the first method; a tick where the paper is."""
    rows = _of_first_method(report.rows)
    papers = {shots: scores.class_iou for _, shots, _, scores in report.published_rows()}
    looks = list(zip(rows, itertools.cycle(COLOURS)))  # noqa: B905
    words = [
        f'<span><i class="key" style="background:{colour}"></i>{row.shots}-shot, {escape(row.cut)}'
        "</span>"
        for row, colour in looks
    ]
    if any(papers.values()):
        words.append(
            '<span><i class="key" style="background:#1c1e22;width:3px"></i>the paper</span>'
        )
    yield f'<p class="legend">{"".join(words)}</p>'
    for class_id, name in report.class_names.items():
        for place, (row, colour) in enumerate(looks):
            label = escape(name.replace("_", " ")) if place == 0 else ""
            paper = papers.get(row.shots, {}).get(class_id)
            yield _bar(label, row.scores.class_iou.get(class_id), colour, paper)
        yield "<p></p>"


def _bar(label: str, value: float | None, colour: str, paper: float | None) -> str:
    share = min(100.0, max(0.0, value)) if value is not None and value == value else 0.0
    tick = f'<i class="tick" style="left:{paper:.2f}%"></i>' if paper is not None else ""
    return (
        f'<div class="bar"><span>{label}</span><span class="track"><i class="fill" '
        f'style="width:{share:.2f}%;background:{colour}"></i>{tick}</span>'
        f'<span class="n">{number(value, 1)}</span></div>'
    )


def _histograms(episodes: "Iterable[EpisodeRow]") -> Iterator[str]:
    """How many episodes lie in each tenth of IoU, for every method, shots and cut."""
    groups: dict[str, list[float]] = {}
    for row in episodes:
        groups.setdefault(f"{row.method}, {row.shots}-shot, cut {row.cut}", []).append(row.iou)
    if groups:
        yield "<h2>IoU of the episodes, percent</h2>"
    for name, ious in groups.items():
        counts = [0] * BINS
        for iou in ious:
            counts[min(BINS - 1, int(iou * BINS / 100))] += 1
        columns = [
            f'<div>{count}<i style="height:{6.4 * count / max(counts):.2f}rem"></i>'
            f"{100 * place // BINS}</div>"
            for place, count in enumerate(counts)
        ]
        mean = sum(ious) / len(ious)
        yield (
            f'<h3>{escape(name)} <small class="faint">mean {mean:.1f}, number of episodes in '
            "each tenth</small></h3>"
        )
        yield f'<div class="bins">{"".join(columns)}</div>'


def _pictures(report: "Report", folder: Path, plots: Sequence[str]) -> Iterator[str]:
    if plots:
        yield "<h2>Curves</h2>"
        yield from (_image(folder / plot, plot) for plot in plots)
    panels = [panel for panel in report.panels if (folder / panel).exists()]
    if panels:
        yield "<h2>Episodes</h2>"
    for heading, group in itertools.groupby(panels, key=_heading):
        yield f"<h3>{escape(heading)}</h3>"
        yield from (_image(folder / panel, Path(panel).stem) for panel in group)


def _heading(panel: str) -> str:
    """What a group of panels is: "panels/1shot_best_1_7_ship.png" -> "1-shot, best"."""
    found = re.match(r"(\d+)shot_(\w+?)_\d", Path(panel).stem)
    return f"{found[1]}-shot, {found[2]}" if found else "episodes"


def _image(path: Path, words: str) -> str:
    """A picture inside the page, as WebP: a panel takes a fifth of its PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        width, height = image.size
        image.convert("RGB").save(buffer, format="WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img loading="lazy" width="{width}" height="{height}" alt="{escape(words)}" '
        f'src="data:image/webp;base64,{data}"></figure>'
    )
