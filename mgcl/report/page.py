"""The frame of report.html: its style, for a desk and a phone, on paper too."""

import base64
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mgcl.report.published import SOURCE
from mgcl.report.tables import Table, number

if TYPE_CHECKING:
    from mgcl.report.results import EpisodeRow, Report, Row


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ink: #1c1e22; --faint: #646a74; --line: #e4e7eb; --shade: #f4f6f8; --blue: #0b63c5; }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: #fff;
  max-width: 1120px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }}
h1 {{ font-size: 1.55rem; line-height: 1.25; margin: .3rem 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .5rem; }}
small, .faint {{ color: var(--faint); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }}
th {{ border-bottom: 2px solid var(--ink); vertical-align: bottom; }}
td {{ white-space: nowrap; }}
th.n {{ white-space: normal; max-width: 6.2rem; }}
td.words {{ white-space: normal; overflow-wrap: anywhere; }}
tr.group td {{ border-top: 2px solid #b9c0c9; }}
tr.ours td {{ background: #eef5fd; }}
th:first-child, td:first-child {{ position: sticky; left: 0; background: #fff; }}
tr.ours td:first-child {{ background: #eef5fd; }}
.n {{ text-align: right; }}
.cards {{ display: grid; gap: .7rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }}
.card {{ border: 1px solid var(--line); border-radius: .6rem; padding: .6rem .9rem; }}
.card b {{ display: block; font-size: 1.8rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.card small {{ display: block; font-size: .8rem; line-height: 1.35; }}
.legend span {{ margin-right: 1.1rem; white-space: nowrap; font-size: .85rem; }}
.key {{ display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem;
  border-radius: 2px; }}
.class {{ display: grid; grid-template-columns: 10rem 1fr; gap: 0 .8rem; margin: .9rem 0; }}
.bar {{ display: grid; grid-template-columns: 1fr 6.2rem; gap: .6rem; align-items: center;
  font-size: .8rem; line-height: 1.35; font-variant-numeric: tabular-nums; }}
.track {{ position: relative; background: var(--shade); height: .8rem; border-radius: 2px; }}
.fill {{ display: block; height: 100%; border-radius: 2px; }}
.tick {{ position: absolute; top: -.15rem; bottom: -.15rem; width: 3px; margin-left: -1px;
  background: var(--ink); }}
.histograms {{ display: grid; gap: .4rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }}
.histograms {{ align-items: end; }}
.histograms h3 {{ line-height: 1.3; }}
.histograms h3 small {{ white-space: nowrap; }}
.bins {{ display: flex; align-items: flex-end; gap: 2px; }}
.bins div {{ flex: 1; text-align: center; font-size: .72rem; line-height: 1.3; }}
.bins i {{ display: block; background: var(--blue); border-radius: 2px 2px 0 0;
  border-bottom: 1px solid var(--ink); }}
.bins small {{ display: block; text-align: left; }}
.plots {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }}
img {{ max-width: 100%; height: auto; display: block; }}
figure {{ margin: 0 0 1.4rem; }}
figcaption {{ font-size: .8rem; color: var(--faint); overflow-wrap: anywhere; }}
@media (max-width: 640px) {{
  .class {{ grid-template-columns: 1fr; gap: .2rem; }}
  .class > b {{ font-size: .9rem; }}
  td:first-child {{ white-space: normal; min-width: 7.5rem; }}
  .panel {{ overflow-x: auto; }}
  .panel img {{ max-width: none; width: 46rem; }}
}}
@media print {{ h2 {{ break-after: avoid; }} figure, .card, .class {{ break-inside: avoid; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

PUBLISHED = f"mIoU from the paper's tables, FB-IoU and class IoUs from its authors' logs: {SOURCE}."
BINS = 10  # of the histogram of episode IoUs
COLOURS = ("#0b63c5", "#7fb2ec", "#e8590c", "#f5a97a", "#2b8a3e", "#8fcf9c")
INK = "#1c1e22"


def to_html(
    report: "Report",
    folder: Path,
    *,
    table: Table,
    published: Table | None,
    classes: Table | None,
    plots: Sequence[str],
) -> str:
    """The whole report as one page.

    Args:
        report: what the test found out.
        folder: where the report's panels and plots lie; panels that are missing are left out.
        table: the rows of the test.
        published: the paper's rows, if it has any.
        classes: precision and recall, if they are known.
        plots: names of the plots.
    """
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _cards(report.rows),
        "<h2>Results, percent</h2>",
        _table(table, ours=report.decisive),
        _list(report.notes),
    ]
    if published:
        parts += ["<h2>Published, not measured here</h2>", f"<p>{escape(PUBLISHED)}</p>"]
        parts += [_table(published)]
    parts += ["<h2>IoU of each class, percent</h2>", *_class_bars(report)]
    if classes:
        words = "Precision: share of the marked pixels that are right. Recall: share of the "
        words += "object pixels that are marked. The pixels of a class's episodes are pooled."
        parts += ["<h2>Precision and recall, percent</h2>", f'<p class="faint">{words}</p>']
        parts += [_table(classes)]
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
        f'<div class="card"><small>{row.shots}-shot mIoU</small>'
        f"<b>{number(row.scores.miou)}</b>"
        f"<small>FB-IoU {number(row.scores.fb_iou)}</small>"
        f"<small>threshold {escape(row.threshold)}</small></div>"
        for row in _of_first_method(rows)
    ]
    method = f'<div class="faint">{escape(rows[0].method)}</div>' if rows else ""
    return f'{method}<div class="cards">{"".join(cards)}</div>'


def _table(table: Table, *, ours: str = "") -> str:
    """A table; rows of the method `ours` are tinted, and a line parts the numbers of shots."""
    kinds = [' class="n"' if right else "" for right in table.is_number]
    if table.header[-1] == "value":
        kinds[-1] = ' class="words"'

    def line(cells: Sequence[str], tag: str, look: str = "") -> str:
        marked = zip(cells, kinds, strict=True)
        filled = "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for text, kind in marked)
        return f"<tr{look}>{filled}</tr>"

    lines, before = [], ""
    for row in table.rows:
        first = row[table.header.index("shots")] if "shots" in table.header and ours else ""
        looks = ["group"] * bool(before and first != before) + ["ours"] * (row[0] == ours)
        lines.append(line(row, "td", f' class="{" ".join(looks)}"' if looks else ""))
        before = first
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n{line(table.header, "th")}\n{body}\n</table></div>'


def _list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _class_bars(report: "Report") -> Iterator[str]:
    """A bar for each class and row of the first method; a tick where the paper is."""
    rows = _of_first_method(report.rows)
    papers = {shots: scores.class_iou for _, shots, _, scores in report.published_rows()}
    looks = list(zip(rows, itertools.cycle(COLOURS)))  # noqa: B905
    words = [
        f'<span><i class="key" style="background:{colour}"></i>{row.shots}-shot, '
        f"{escape(row.threshold)}</span>"
        for row, colour in looks
    ]
    if any(papers.values()):
        words.append(
            f'<span><i class="key" style="background:{INK};width:3px"></i>the paper</span>'
        )
    yield f'<p class="legend">{"".join(words)}</p>'
    for class_id, name in report.class_names.items():
        bars = [
            _bar(
                row.scores.class_iou.get(class_id), colour, papers.get(row.shots, {}).get(class_id)
            )
            for row, colour in looks
        ]
        label = escape(name.replace("_", " "))
        yield f'<div class="class"><b>{label}</b><div>{"".join(bars)}</div></div>'


def _bar(value: float | None, colour: str, paper: float | None) -> str:
    share = min(100.0, max(0.0, value)) if value is not None and value == value else 0.0
    tick = words = ""
    if paper is not None:
        tick = f'<i class="tick" style="left:{paper:.2f}%"></i>'
        words = f" <small>paper {paper:.1f}</small>"
    return (
        f'<div class="bar"><span class="track"><i class="fill" '
        f'style="width:{share:.2f}%;background:{colour}"></i>{tick}</span>'
        f"<span>{number(value, 1)}{words}</span></div>"
    )


def _histograms(episodes: "Iterable[EpisodeRow]") -> Iterator[str]:
    """How many episodes lie in each tenth of IoU, for every method, shots and threshold."""
    groups: dict[str, list[float]] = {}
    for row in episodes:
        threshold = "" if row.threshold == "-" else f", threshold {row.threshold}"
        groups.setdefault(f"{row.method}, {row.shots}-shot{threshold}", []).append(row.iou)
    if not groups:
        return
    yield "<h2>IoU of the episodes, percent</h2>"
    yield '<p class="faint">Number of episodes in each tenth of IoU.</p><div class="histograms">'
    for name, ious in groups.items():
        counts = [0] * BINS
        for iou in ious:
            counts[min(BINS - 1, int(iou * BINS / 100))] += 1
        columns = [
            f'<div>{count}<i style="height:{5 * count / max(counts):.2f}rem"></i>'
            f"<small>{100 * place // BINS}</small></div>"
            for place, count in enumerate(counts)
        ]
        mean = f"<small>mean {sum(ious) / len(ious):.1f}</small>"
        yield f'<div><h3>{escape(name)} {mean}</h3><div class="bins">{"".join(columns)}</div></div>'
    yield "</div>"


def _pictures(report: "Report", folder: Path, plots: Sequence[str]) -> Iterator[str]:
    if plots:
        yield '<h2>Curves</h2><div class="plots">'
        yield from (_image(folder / plot, plot) for plot in plots)
        yield "</div>"
    panels = [panel for panel in report.panels if (folder / panel).exists()]
    if panels:
        yield "<h2>Episodes</h2>"
    of_episode = {
        (row.shots, row.episode_id): row for row in report.episodes if row.method == report.decisive
    }
    for heading, group in itertools.groupby(panels, key=_heading):
        yield f"<h3>{escape(heading)}</h3>"
        for panel in group:
            found = re.match(r"(\d+)shot_\w+?_\d+_(\d+)_", Path(panel).stem)
            row = of_episode.get((int(found[1]), int(found[2]))) if found else None
            words = f"query {row.query}, supports {row.supports}" if row and row.query else ""
            yield _image(folder / panel, Path(panel).stem, words, kind="panel")


def _heading(panel: str) -> str:
    """What a group of panels is: "panels/1shot_best_1_7_ship.png" -> "1-shot, best"."""
    found = re.match(r"(\d+)shot_(\w+?)_\d", Path(panel).stem)
    return f"{found[1]}-shot, {found[2]}" if found else "episodes"


def _image(path: Path, words: str, caption: str = "", *, kind: str = "plot") -> str:
    """A picture inside the page, as WebP: a panel takes a fifth of its PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        width, height = image.size
        image.convert("RGB").save(buffer, format="WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="{kind}"><img width="{width}" height="{height}" alt="{escape(words)}" '
        f'src="data:image/webp;base64,{data}">{below}</figure>'
    )
