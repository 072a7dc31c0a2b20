"""The report as Markdown, text and JSON, and the tables under it."""

import csv
import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mgcl.images.write import write_png
from mgcl.metrics import Scores
from mgcl.report import published, tables
from mgcl.report.results import ClassRow, EpisodeRow, Report, Row
from mgcl.report.tables import Table
from mgcl.report.text import to_json, to_markdown, to_text
from mgcl.report.write import write_report

NAMES = {0: "ship", 1: "storage_tank", 2: "baseball_diamond", 3: "tennis_court"}
NAMES[4] = "basketball_court"
SCORES = Scores(30.0, 55.5, {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0, 4: 50.004})
FACTS = {"benchmark": "isaid", "fold": "0", "backbone": "resnet50", "masks": "sam vit_h"}
REPORT = Report(
    title="MGCL on iSAID-5i, fold 0",
    facts=FACTS,
    class_names=NAMES,
    rows=[
        Row("cosine prototypes, untrained", 1, "-", SCORES),
        Row("MGCL, best = last (epoch 31)", 1, "calibrated 0.23", SCORES),
        Row("MGCL, best = last (epoch 31)", 5, "0.5", SCORES),
    ],
    curves={"1-shot": {0.25: 30.0, 0.5: 20.0}},
    notes=["Chosen on the test fold."],
    panels=["panels/1shot_best_1_7_ship.png"],
)


def cells(text: str, start: str) -> list[list[str]]:
    """Cells of the Markdown lines that start with `start`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_has_the_fields_table_a_column_a_class():
    text = to_markdown(REPORT)
    header = ["method", "shots", "threshold", *(n.replace("_", " ") for n in NAMES.values())]
    assert cells(text, "method")[0] == [*header, "mIoU", "FB-IoU"]
    numbers = ["10.00", "20.00", "30.00", "40.00", "50.00", "30.00", "55.50"]
    ours = cells(text, "MGCL, best")
    assert ours[0] == ["MGCL, best = last (epoch 31)", "1", "calibrated 0.23", *numbers]
    assert [row[1] for row in ours] == ["1", "5"]


def test_markdown_embeds_pictures_and_lists_facts_and_notes():
    text = to_markdown(REPORT)
    assert "![1shot best 1 7 ship](panels/1shot_best_1_7_ship.png)" in text
    assert "![threshold](threshold.png)" in text
    assert cells(text, "masks") == [["masks", "sam vit_h"]]
    assert "- Chosen on the test fold." in text


def test_published_numbers_stand_in_their_own_table_and_say_whose_they_are():
    own, heading, theirs = to_markdown(REPORT).partition("## Published, not measured here")
    assert heading and "the paper" not in own and published.SOURCE in theirs
    one, five = cells(theirs, "MGCL, the paper")
    assert one[1:] == ["1", "0.5", "33.75", "46.60", "49.52", "55.50", "28.50", "42.77", "62.60"]
    assert five[1:] == ["5", "0.5", *["–"] * 5, "49.14", "66.16"]


@pytest.mark.parametrize(
    "facts", [{"backbone": "efficientnet_lite0"}, {"benchmark": "own"}, {"fold": "7"}, {"fold": ""}]
)
def test_where_the_paper_has_nothing_nothing_is_said_of_it(facts):
    report = replace(REPORT, facts={**FACTS, **facts})
    assert "Published" not in to_markdown(report) + to_text(report)


def test_published_means_and_class_ious_agree_with_the_folds():
    for (benchmark, backbone, shots), folds in published.MIOU.items():
        mean = published.MEAN_MIOU[benchmark, backbone, shots]
        assert sum(folds) / 3 == pytest.approx(mean, abs=0.006)
    for key, class_iou in published.CLASS_IOU.items():
        means = [sum(class_iou[5 * fold : 5 * fold + 5]) / 5 for fold in range(3)]
        assert means == pytest.approx(list(published.MIOU[key]), abs=0.011)


def test_text_is_at_most_120_columns_wide_and_aligned():
    long = REPORT.rows[0]._replace(method="a method with a very long name " * 3)
    text = to_text(replace(REPORT, rows=[long, *REPORT.rows]))
    assert max(map(len, text.splitlines())) <= 120
    rows = [line for line in text.splitlines() if line.endswith("  55.50")]
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    for word in ("basketball", "diamond", "calibrated 0.23", "Chosen on the test fold."):
        assert word in text


def test_many_classes_go_over_several_tables_in_a_terminal():
    names = {i: f"a_rather_long_class_name_{i}" for i in range(12)}
    row = Row("MGCL", 1, "0.5", Scores(1.0, 2.0, {i: float(i) for i in names}))
    text = to_text(replace(REPORT, class_names=names, rows=[row], facts={}))
    assert text.count("mIoU") == 3 and " 11.00" in text
    assert max(map(len, text.splitlines())) <= 120


def test_json_names_classes_and_has_no_nan(tmp_path):
    broken = Scores(math.nan, 55.5, {0: math.nan, 1: 20.0})
    write_report(tmp_path, replace(REPORT, rows=[Row("MGCL", 1, "0.5", broken)]))
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    class_iou = {"ship": None, "storage_tank": 20.0, "baseball_diamond": None}
    class_iou |= {"tennis_court": None, "basketball_court": None}
    assert saved["rows"] == [
        {"method": "MGCL", "shots": 1, "threshold": "0.5", "miou": None, "fb_iou": 55.5}
        | {"class_iou": class_iou}
    ]
    assert saved["facts"] == FACTS and saved["classes"]["tennis_court"] == 3
    assert saved["curves"] == {"1-shot": {"0.25": 30.0, "0.5": 20.0}}
    assert to_json(REPORT)["panels"] == REPORT.panels


def test_a_written_report_embeds_the_plots_that_are_there(tmp_path):
    write_png(tmp_path / "learning_curve.png", np.zeros((8, 8, 3), np.uint8))
    write_report(tmp_path, REPORT)
    text = (tmp_path / "report.md").read_text()
    assert "(learning_curve.png)" in text and "(threshold.png)" not in text
    names = ["learning_curve.png", "report.html", "report.json", "report.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


class Page(HTMLParser):
    """What a page is made of: its tags in pairs, its words, what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loads: list[str] = []
        self.ticks: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [found[key] for key in ("src", "href") if key in found]
        self.ticks += [found["style"]] if found.get("class") == "tick" else []
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def written_page(tmp_path, report: Report) -> Page:
    write_report(tmp_path, report)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == [], "every tag is closed"
    return page


def test_the_page_loads_nothing_from_elsewhere_and_holds_its_pictures(tmp_path):
    for picture in ("threshold.png", REPORT.panels[0]):
        write_png(tmp_path / picture, np.zeros((8, 8, 3), np.uint8))
    page = written_page(tmp_path, replace(REPORT, panels=[*REPORT.panels, "panels/gone.png"]))
    assert len(page.loads) == 2
    assert all(load.startswith("data:image/webp;base64,") for load in page.loads)
    text = (tmp_path / "report.html").read_text()
    assert "http" not in text and "@import" not in text and "1-shot, best" in page.words


def test_the_page_has_the_numbers_and_a_tick_where_the_paper_is(tmp_path):
    first = [row for row in REPORT.rows if row.method.startswith("MGCL")]
    page = written_page(tmp_path, replace(REPORT, rows=first))
    assert page.words.count("calibrated 0.23") == 1 and "50.0" in page.words
    assert page.ticks == [f"left:{x:.2f}%" for x in (33.75, 46.6, 49.52, 55.5, 28.5)]
    assert written_page(tmp_path, replace(REPORT, facts={})).ticks == []


def test_the_page_says_precision_and_recall_of_the_decisive_method(tmp_path):
    classes = [
        ClassRow(row.method, 1, row.threshold, 0, 9, 10.0, 61.25, 72.5) for row in REPORT.rows
    ]
    report = replace(REPORT, rows=REPORT.rows[1:], classes=classes)
    page = written_page(tmp_path, report)
    start = page.words.index("Precision and recall, percent")
    assert page.words[start:].count("61.25") == page.words[start:].count("72.50") == 2
    ((name, episodes, *numbers),) = cells(to_markdown(report).partition("## Precision")[2], "ship")
    assert (name, episodes, numbers) == ("ship", "9", ["61.25", "72.50"] * 2)


def test_what_a_user_names_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    row = Row(evil, 1, evil, SCORES)
    report = replace(REPORT, title=evil, rows=[row], notes=[evil], facts={evil: evil})
    page = written_page(tmp_path, replace(report, class_names={0: evil}))
    assert page.words.count(evil) >= 6
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_every_episode_is_counted_once_in_the_histogram_and_named_in_the_csv(tmp_path):
    ious = [0.0, 9.99, 10.0, 55.5, 99.0, 100.0]
    episodes = [EpisodeRow("MGCL", 1, "0.5", 40 + i, i % 5, iou) for i, iou in enumerate(ious)]
    page = written_page(tmp_path, replace(REPORT, episodes=episodes))
    start = page.words.index("MGCL, 1-shot, threshold 0.5")
    counts = [word for word in page.words[start:] if word.isdigit()][: 2 * 10 : 2]
    assert counts == ["2", "1", "0", "0", "0", "1", "0", "0", "0", "2"]
    rows = list(csv.DictReader((tmp_path / "episodes.csv").read_text().splitlines()))
    assert [row["episode"] for row in rows] == ["40", "41", "42", "43", "44", "45"]
    assert (rows[1]["class"], rows[1]["iou"]) == ("storage_tank", "9.9900")


def test_a_report_without_rows_can_be_written(tmp_path):
    page = written_page(tmp_path, replace(REPORT, rows=[], panels=[], curves={}))
    assert REPORT.title in page.words


def test_cells_cannot_break_a_table():
    table = Table(["a|b", "n_1"], [["x|y\nz", "1.50"], ["5 % & more", tables.number(None)]])
    assert tables.markdown(table).splitlines()[2] == r"| x\|y z | 1.50 |"
    latex = tables.latex(table, caption="50 %")
    assert r"5 \% \& more & -- \\" in latex and r"a|b & n\_1 \\" in latex
    assert r"\begin{tabular}{lr}" in latex and r"\caption{50 \%}" in latex


def test_a_table_without_rows_is_still_a_table():
    empty = Table(["method", "mIoU"], [])
    assert tables.text(empty).splitlines()[0].split() == ["method", "mIoU"]
    assert tables.markdown(empty).count("\n") == 2
