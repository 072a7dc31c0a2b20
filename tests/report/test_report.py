"""The report as Markdown, text and JSON, and the tables under it."""

import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mgcl.engine.absence import Absence, Outcome
from mgcl.images.write import write_png
from mgcl.metrics import Scores
from mgcl.report import published, tables
from mgcl.report.records import (
    ARGMAX,
    CALIBRATED,
    OWN,
    AbsentRow,
    ClassRow,
    Condition,
    EpisodeRow,
    Method,
    Panel,
    Report,
    Row,
    Setting,
)
from mgcl.report.tables import Difference, Spread, Table
from mgcl.report.text import to_json, to_markdown, to_text
from mgcl.report.verdict import not_beaten, verdict
from mgcl.report.write import write_report

NAMES = {0: "ship", 1: "storage_tank", 2: "baseball_diamond", 3: "tennis_court"}
NAMES[4] = "basketball_court"
SCORES = Scores(30.0, 55.5, {0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0, 4: 50.004})
OURS = Method("MGCL", ("best", "last"), epoch=31, trained=True)
PROTOTYPES = Method("cosine prototypes, untrained")
CALIBRATED_ROW = Row(Condition(OURS, 1, "vote", CALIBRATED, 0.23), SCORES)
REPORT = Report(
    title="MGCL on iSAID-5i, fold 0",
    setting=Setting("isaid", 0, "resnet50", "data/isaid"),
    facts={"masks": "sam vit_h"},
    class_names=NAMES,
    rows=[
        Row(Condition(PROTOTYPES, 1), SCORES),
        CALIBRATED_ROW,
        Row(Condition(OURS, 5, "vote", ARGMAX, 0.5), SCORES),
    ],
    curves={"1-shot": {0.25: 30.0, 0.5: 20.0}},
    notes=["Chosen on the test fold."],
    panels=[Panel("panels/1shot_best_1_7_ship.png", 1, "best", 1, 7, 0, 80.0, 0.5)],
)
PLOT = "threshold.png"


def cells(text: str, start: str) -> list[list[str]]:
    """Cells of the Markdown lines that start with `start`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_has_the_fields_table_a_column_a_class():
    text = to_markdown(REPORT)
    header = ["method", "shots", "threshold", *(n.replace("_", " ") for n in NAMES.values())]
    header[3:3] = ["mIoU", "FB-IoU"]  # in view on a phone, too
    assert cells(text, "method")[0] == header
    numbers = ["30.00", "55.50", "10.00", "20.00", "30.00", "40.00", "50.00"]
    ours = cells(text, "MGCL, best")
    assert ours[0] == ["MGCL, best = last (epoch 31)", "1", "calibrated 0.23", *numbers]
    assert [row[1] for row in ours] == ["1", "5"]


def test_markdown_embeds_pictures_and_lists_facts_and_notes():
    text = to_markdown(REPORT, plots=[PLOT])
    assert "![1-shot, best 1: ship, episode 7](panels/1shot_best_1_7_ship.png)" in text
    assert "![threshold.png](threshold.png)" in text
    assert cells(text, "masks") == [["masks", "sam vit_h"]]
    assert "- Chosen on the test fold." in text


def test_published_numbers_stand_in_their_own_table_and_say_whose_they_are():
    own, heading, theirs = to_markdown(REPORT).partition("## Published, not measured here")
    assert heading and "the paper" not in own and published.SOURCE in theirs
    one, five = cells(theirs, "MGCL, the paper")
    assert one[1:] == ["1", "0.5", "42.77", "62.60", "33.75", "46.60", "49.52", "55.50", "28.50"]
    assert five[1:] == ["5", "0.5", "49.14", "66.16", *["–"] * 5]


@pytest.mark.parametrize(
    "setting",
    [
        {"backbone": "efficientnet_lite0"},
        {"benchmark": "own"},
        {"fold": 7},
        {"origin": "synthetic scenes"},
    ],
)
def test_where_the_paper_has_nothing_nothing_is_said_of_it(setting):
    report = replace(REPORT, setting=replace(REPORT.setting, **setting))
    assert "Published" not in to_markdown(report) + to_text(report)


def test_published_means_and_class_ious_agree_with_the_folds():
    for (benchmark, backbone, shots), folds in published.MIOU.items():
        mean = published.MEAN_MIOU[benchmark, backbone, shots]
        assert sum(folds) / 3 == pytest.approx(mean, abs=0.006)
    for key, class_iou in published.CLASS_IOU.items():
        means = [sum(class_iou[5 * fold : 5 * fold + 5]) / 5 for fold in range(3)]
        assert means == pytest.approx(list(published.MIOU[key]), abs=0.011)


def test_text_is_at_most_120_columns_wide_and_aligned():
    long = Row(Condition(Method("a method with a very long name " * 3), 1), SCORES)
    text = to_text(replace(REPORT, rows=[long, *REPORT.rows]))
    assert max(map(len, text.splitlines())) <= 120
    rows = [line for line in text.splitlines() if line.endswith("  50.00")]
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    for word in ("basketball", "diamond", "calibrated 0.23", "Chosen on the test fold."):
        assert word in text


def test_many_classes_go_over_several_tables_in_a_terminal():
    names = {i: f"a_rather_long_class_name_{i}" for i in range(12)}
    condition = Condition(OURS, 1, "vote", ARGMAX, 0.5)
    row = Row(condition, Scores(1.0, 2.0, {i: float(i) for i in names}))
    setting = replace(REPORT.setting, benchmark="own")
    text = to_text(replace(REPORT, class_names=names, rows=[row], setting=setting, panels=[]))
    assert text.count("mIoU") == 3 and " 11.00" in text
    assert max(map(len, text.splitlines())) <= 120
    longer = {i: name.replace("_", "") for i, name in names.items()}
    text = to_text(replace(REPORT, class_names=longer, rows=[row], setting=setting, panels=[]))
    assert text.count("mIoU") > 3 and max(map(len, text.splitlines())) <= 120


def test_json_names_classes_and_has_no_nan(tmp_path):
    broken = Scores(math.nan, 55.5, {0: math.nan, 1: 20.0})
    row = Row(Condition(OURS, 1, "vote", CALIBRATED, 0.3), broken)
    write_report(tmp_path, replace(REPORT, rows=[row]))
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    class_iou = {"ship": None, "storage_tank": 20.0, "baseball_diamond": None}
    class_iou |= {"tennis_court": None, "basketball_court": None}
    assert saved["rows"] == [
        {"method": "MGCL", "checkpoints": ["best", "last"], "epoch": 31, "under_way": 0}
        | {"trained": True, "shots": 1, "rule": "vote", "threshold_kind": "calibrated"}
        | {"threshold": 0.3, "miou": None, "fb_iou": 55.5, "class_iou": class_iou}
    ]
    assert Condition.from_json(saved["rows"][0]) == row.condition
    assert (saved["benchmark"], saved["fold"], saved["backbone"]) == ("isaid", 0, "resnet50")
    assert saved["facts"] == REPORT.facts and saved["classes"]["tennis_court"] == 3
    assert saved["curves"] == {"1-shot": {"0.25": 30.0, "0.5": 20.0}}
    assert to_json(REPORT)["panels"] == [
        {"path": "panels/1shot_best_1_7_ship.png", "shots": 1, "kind": "best", "place": 1}
        | {"episode": 7, "class_id": 0, "class": "ship", "iou": 80.0, "threshold": 0.5}
    ]


def test_images_without_the_class_have_a_table_of_their_own_where_they_were_asked_for(tmp_path):
    assert "without the class" not in to_markdown(REPORT) + to_text(REPORT)
    told = Absence(9, Outcome(90.0, 12.5, 20.0), Outcome(30.0, math.nan, 25.0), 81.5, 89.0, 52.0)
    rows = [
        AbsentRow(CALIBRATED_ROW.condition, told),
        AbsentRow(Condition(PROTOTYPES, 1), Absence(9, Outcome(100.0, 40.0, 10.0))),
    ]
    report = replace(REPORT, absent=rows)
    _, _, theirs = to_markdown(report).partition("## Images without the class")
    ours, presence = cells(theirs, "MGCL, best")
    assert ours[3:] == ["12.50", "90.00", "20.00", "–", "30.00", "25.00"]
    assert presence[1:] == ["1", "81.50", "89.00", "52.00"]
    (others,) = cells(theirs, "cosine")
    assert others[3:] == ["40.00", "100.00", "10.00", *["–"] * 3]
    assert max(map(len, to_text(report).splitlines())) <= 120
    found = json.loads(json.dumps(to_json(report)["absent"], allow_nan=False))
    assert found[0]["decided"] == {"alarms": 30.0, "marked": None, "miou": 25.0}
    assert found[1]["decided"] is None and found[1]["auc"] is None
    write_report(tmp_path, report)
    assert "Images without the class" in (tmp_path / "report.html").read_text()


def test_a_report_that_held_its_facts_in_words_is_not_read_as_another():
    with pytest.raises(KeyError):
        Condition.from_json({"method": "MGCL, best (epoch 6)", "shots": 1, "threshold": "0.5"})


@pytest.mark.parametrize(
    "condition, name, decision",
    [
        (
            Condition(OURS, 1, "vote", CALIBRATED, 0.3),
            "MGCL, best = last (epoch 31)",
            "calibrated 0.30",
        ),
        (Condition(OURS, 1, "vote", OWN, 0.333), "MGCL, best = last (epoch 31)", "0.333"),
        (Condition(Method("MGCL", ("last",), 3, 40)), "MGCL, last (epoch 3 and 40 episodes)", "-"),
        (Condition(Method("MGCL", ("a/w.pt",)), 5, "vote", ARGMAX, 0.5), "MGCL, w", "0.5"),
        (Condition(PROTOTYPES, 5), "cosine prototypes, untrained", "-"),
    ],
)
def test_names_for_print_are_made_of_the_fields(condition, name, decision):
    assert (condition.method.words, condition.decision) == (name, decision)
    assert Condition.from_json(condition.to_json()) == condition
    assert len(condition.cells()) == len(condition.columns())


def row_of(method: Method, miou: float, *condition, shots: int = 1) -> Row:
    return Row(Condition(method, shots, *condition), Scores(miou, 50.0, {}))


def test_the_verdict_says_who_won_by_how_much_at_how_many_shots():
    rows = [
        row_of(OURS, 90.0, "vote", ARGMAX, 0.5),  # the calibrated one counts
        row_of(OURS, 60.98, "vote", CALIBRATED, 0.3),
        row_of(PROTOTYPES, 33.92),
        row_of(Method("matcher"), 60.98, shots=5),
        row_of(OURS, 50.0, "vote", CALIBRATED, 0.3, shots=5),
        row_of(OURS, 70.0, "mean", CALIBRATED, 0.4, shots=5),  # the first rule counts
    ]
    one, five = verdict(rows)
    assert one == (
        "1-shot: MGCL, best = last (epoch 31) wins with mIoU 60.98 at threshold calibrated 0.30, "
        "27.06 more than cosine prototypes, untrained (33.92)."
    )
    assert five == (
        "5-shot: matcher wins with mIoU 60.98, 10.98 more than MGCL, best = last (epoch 31) "
        "(50.00)."
    )
    assert not_beaten(rows) == [
        "5-shot: the trained MGCL, best = last (epoch 31) with mIoU 50.00 does not beat matcher "
        "with 60.98"
    ]
    assert verdict([row_of(PROTOTYPES, math.nan)]) == [] == not_beaten([])
    assert "level" in verdict([row_of(OURS, 1.0), row_of(PROTOTYPES, 1.0)])[0]
    assert "reaches mIoU 1.00" in verdict([row_of(OURS, 1.0)])[0]


def test_the_verdict_and_its_warnings_stand_above_the_table_everywhere(tmp_path):
    report = replace(REPORT, verdict=["1-shot: A wins."], warnings=["the trained A does not"])
    for text in (to_markdown(report), to_text(report)):
        assert "1-shot: A wins." in text.partition("| method")[0].partition("method  ")[0]
    assert "WARNING: the trained A does not." in to_text(report)
    assert "**Warning: the trained A does not.**" in to_markdown(report)
    page = written_page(tmp_path, report)
    place = page.words.index("Results, percent")
    assert "1-shot: A wins." in page.words[:place] and "Warning" in page.words[:place]


def test_a_column_names_the_rule_where_a_method_was_tried_with_several():
    both = [row_of(OURS, 1.0, rule, ARGMAX, 0.5, shots=5) for rule in ("vote", "mean")]
    assert cells(to_markdown(replace(REPORT, rows=both)), "method")[0][2:4] == ["rule", "threshold"]
    assert [row[2] for row in cells(to_markdown(replace(REPORT, rows=both)), "MGCL")][:2] == [
        "vote",
        "mean",
    ]
    assert "rule" not in cells(to_markdown(REPORT), "method")[0]


def test_cells_are_values_until_they_are_printed():
    row = ["words", 3, 2.5, Spread(1.0, 0.25), Difference(1.5), True, None, math.nan]
    printed = ["words", "3", "2.50", "1.00 ± 0.25", "+1.50", "✓", "–", "–"]
    table = Table([f"c{i}" for i in range(8)], [row])
    assert table.words == [printed] and table.is_number == [False] + [True] * 7


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
        self.sizes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [found[key] for key in ("src", "href") if key in found]
        self.ticks += [found["style"]] if found.get("class") == "tick" else []
        self.sizes += [(found["width"], found["height"])] if tag == "img" else []
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
    (panel,) = REPORT.panels
    for picture in (PLOT, panel.path):
        write_png(tmp_path / picture, np.zeros((8, 8, 3), np.uint8))
    gone = panel._replace(path="panels/gone.png")
    page = written_page(tmp_path, replace(REPORT, panels=[panel, gone]))
    assert len(page.loads) == 2
    assert all(load.startswith("data:image/webp;base64,") for load in page.loads)
    text = (tmp_path / "report.html").read_text()
    assert "http" not in text and "@import" not in text and "1-shot, best" in page.words


def test_a_panel_becomes_its_tiles_so_that_a_narrow_page_can_stack_them(tmp_path):
    boxes = (((0, 0, 4, 8), (4, 0, 8, 8)), ((0, 8, 8, 16),))
    panel = REPORT.panels[0]._replace(boxes=boxes)
    write_png(tmp_path / panel.path, np.zeros((16, 8, 3), np.uint8))
    page = written_page(tmp_path, replace(REPORT, panels=[panel]))
    assert page.sizes == [("4", "8"), ("4", "8"), ("8", "8")]


def test_the_page_has_the_numbers_and_a_tick_where_the_paper_is(tmp_path):
    page = written_page(tmp_path, replace(REPORT, rows=REPORT.rows[1:]))
    assert page.words.count("calibrated 0.23") == 1 and "50.0" in page.words
    assert page.ticks == [f"left:{x:.2f}%" for x in (33.75, 46.6, 49.52, 55.5, 28.5)]
    synthetic = replace(REPORT.setting, origin="synthetic scenes")
    assert written_page(tmp_path, replace(REPORT, setting=synthetic)).ticks == []


def test_the_page_says_precision_and_recall_of_the_decisive_method(tmp_path):
    classes = [ClassRow(row.condition, 0, 9, 10.0, 61.25, 72.5) for row in REPORT.rows]
    report = replace(REPORT, rows=REPORT.rows[1:], classes=classes)
    page = written_page(tmp_path, report)
    start = page.words.index("Precision and recall, percent")
    assert page.words[start:].count("61.25") == page.words[start:].count("72.50") == 2
    section = to_markdown(report).partition("## Precision")[2]
    (header,), (line,) = cells(section, "class"), cells(section, "ship")
    assert header[2:4] == [f"1-shot, calibrated 0.23: {word}" for word in ("precision", "recall")]
    assert line == ["ship", "9", *["61.25", "72.50"] * 2]


def test_what_a_user_names_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    row = Row(Condition(Method(evil), 1), SCORES)
    report = replace(REPORT, title=evil, rows=[row], notes=[evil], facts={evil: evil})
    report = replace(report, verdict=[evil], warnings=[evil], class_names={0: evil})
    page = written_page(tmp_path, report)
    assert page.words.count(evil) >= 6
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_every_episode_is_counted_once_in_the_histogram_and_named_in_the_csv(tmp_path):
    ious = [0.0, 9.99, 10.0, 55.5, 99.0, 100.0]
    condition = Condition(Method("MGCL", ("best",), 6), 1, "vote", ARGMAX, 0.5)
    episodes = [EpisodeRow(condition, 40 + i, i % 5, iou) for i, iou in enumerate(ious)]
    page = written_page(tmp_path, replace(REPORT, episodes=episodes))
    start = page.words.index("MGCL, best (epoch 6), 1-shot, threshold 0.5")
    counts = [word for word in page.words[start:] if word.isdigit()][: 2 * 10 : 2]
    assert counts == ["2", "1", "0", "0", "0", "1", "0", "0", "0", "2"]
    rows = list(csv.DictReader((tmp_path / "episodes.csv").read_text().splitlines()))
    assert [row["episode"] for row in rows] == ["40", "41", "42", "43", "44", "45"]
    assert (rows[1]["class"], rows[1]["iou"]) == ("storage_tank", "9.9900")
    fields = ("method", "checkpoint", "epoch", "shots", "rule", "threshold_kind", "threshold")
    assert [rows[1][key] for key in fields] == ["MGCL", "best", "6", "1", "vote", "0.5", "0.50"]


def test_a_report_without_rows_can_be_written(tmp_path):
    page = written_page(tmp_path, replace(REPORT, rows=[], panels=[], curves={}))
    assert REPORT.title in page.words


def test_cells_cannot_break_a_table():
    table = Table(["a|b", "n_1"], [["x|y\nz", 1.5], ["5 % & more", None]])
    assert cells(tables.markdown(table), "x")[0] == ["x\\", "y z", "1.50"]
    latex = tables.latex(table, caption="50 %")
    assert re.search(r"5 \\% \\& more +& +-- \\\\", latex) and re.search(r"a\|b +& +n\\_1", latex)
    assert r"\begin{tabular}{lr}" in latex and r"\caption{50 \%}" in latex


def test_a_table_without_rows_is_still_a_table():
    empty = Table(["method", "mIoU"], [])
    assert tables.text(empty).splitlines()[0].split() == ["method", "mIoU"]
    assert tables.markdown(empty).count("\n") == 2
