"""Testing a checkpoint: its baselines, its episodes, its refusals, and what the report says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import main_2_mgcl_test as main_2
from mgcl import checkpoint
from mgcl.build import build_setup, evaluation_loader
from mgcl.config import Config, load
from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.sets import (
    EpisodeSet,
    benchmark,
    build_heldout,
    build_source,
    build_test,
    build_training,
    build_validation,
    of_shots,
)
from mgcl.engine.evaluation import THRESHOLDS, Evaluation, evaluate
from mgcl.model.backbone import Backbone
from mgcl.model.baselines import CosinePrototypes, EverythingForeground
from mgcl.model.network import aggregate_shots
from mgcl.report import results, score
from mgcl.report.records import Method, Row
from mgcl.report.verdict import not_beaten
from tests.small_run import Pipeline, words


def in_process(pipeline: Pipeline, folder: Path, **constants: Any) -> int:
    constants = {"test_checkpoint": pipeline.folder / "best.pt", "test_shots": "[1]"} | constants
    return main_2.main(words(pipeline.root, pipeline.masks, folder, **constants))


def rows(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "report.json").read_text())["rows"]


class TinyBackbone(Backbone):
    """Three levels of means over 8, 16 and 32 pixels."""

    channels = (3, 3, 3)

    def levels(self, images):
        return [F.avg_pool2d(images, side) for side in (8, 16, 32)]


def prototypes_by_hand(query, supports, labels):
    """Nearest of two mean vectors by cosine, pixel by pixel of the stride-16 map."""
    query_map = F.avg_pool2d(query[None], 16)[0]  # (3, h, w)
    sides = []
    for side in (0, 1):
        means = []
        for image, label in zip(supports, labels, strict=True):
            feature = F.avg_pool2d(image[None], 16)[0]
            weight = (label == side).float()[None, None]
            weight = F.avg_pool2d(weight, 16)
            total, mass = torch.zeros(3), 0.0
            for y in range(feature.shape[1]):
                for x in range(feature.shape[2]):
                    total += weight[0, 0, y, x] * feature[:, y, x]
                    mass += float(weight[0, 0, y, x])
            means.append(total / max(mass, 1e-8))
        sides.append(torch.stack(means).mean(0))
    cosines = torch.stack([F.cosine_similarity(query_map, p[:, None, None], dim=0) for p in sides])
    return F.interpolate(cosines[None], query.shape[1:], mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("shots", [1, 3])
def test_prototypes_are_label_weighted_means_and_the_nearer_one_by_cosine(shots):
    g = torch.Generator().manual_seed(shots)
    query = torch.randn(2, 3, 64, 64, generator=g)
    supports = torch.randn(2, shots, 3, 64, 64, generator=g)
    labels = torch.randint(0, 2, (2, shots, 64, 64), generator=g, dtype=torch.uint8)
    labels[:, :, :9] = 255
    maps = torch.zeros(2, 64, 64, dtype=torch.uint8)
    found = CosinePrototypes(TinyBackbone())(query, maps, supports, labels, labels)
    by_hand = [prototypes_by_hand(q, s, x) for q, s, x in zip(query, supports, labels, strict=True)]
    assert found.shape == (2, 1, 2, 64, 64)
    assert torch.allclose(found[:, 0], torch.stack(by_hand), atol=1e-5)
    nearer = (found[:, 0, 1] > found[:, 0, 0]).to(torch.uint8)
    assert 0 < nearer.float().mean() < 1
    assert torch.equal(aggregate_shots(found), nearer)


def test_a_support_without_foreground_gives_finite_cosines():
    image = torch.rand(1, 3, 64, 64)
    label = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    found = CosinePrototypes(TinyBackbone())(image, label[0], image[None], label, label)
    assert found.isfinite().all()


def test_everything_foreground_marks_every_pixel():
    image = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
    maps = image[:, 0]
    found = EverythingForeground()(image, maps, image[:, None], maps[:, None], maps[:, None])
    assert found.shape == (2, 1, 2, 32, 48)
    assert aggregate_shots(found).all()


def test_in_the_report_everything_foreground_scores_the_objects_shares(pipeline):
    config = load(words(pipeline.root, pipeline.masks, pipeline.folder))
    part = build_test(config, build_source(config), shots=1)
    pixels = {c: [0, 0] for c in part.class_ids}
    for episode_id in part.ids:
        episode = part.dataset[episode_id]
        valid = episode.query_label != 255
        pixels[episode.class_id][0] += int((episode.query_label == 1).sum())
        pixels[episode.class_id][1] += int(valid.sum())
    names = benchmark(config).class_names
    expected = {names[c]: 100 * hit / max(1, union) for c, (hit, union) in pixels.items()}
    row = next(r for r in rows(pipeline.folder) if r["method"] == score.EVERYTHING)
    found = {name: iou for name, iou in row["class_iou"].items() if iou is not None}
    assert found == pytest.approx(expected) and len(row["class_iou"]) == 5
    assert row["miou"] == pytest.approx(sum(expected.values()) / len(expected))


def reached(name: str, miou: float, *, trained: bool, threshold: float | None = None) -> list[Row]:
    """The rows of one episode with `miou` percent at `threshold`, nothing at others."""
    counts = torch.zeros(1, len(THRESHOLDS), 4, dtype=torch.int64)
    counts[:, :, 1] = 1000
    counts[:, THRESHOLDS.index(threshold or 0.5), 0] = int(10 * miou)
    one = torch.tensor([0])
    method, network = Method(name, trained=trained), torch.nn.Identity()
    ours = score.Candidate(method, network, has_threshold=trained, threshold=threshold)
    found = Evaluation((0,), THRESHOLDS, one, one, counts, 1.0)
    return list(results.rows(score.Result(ours, 1, found)))


def test_each_baseline_that_is_not_beaten_at_the_calibrated_threshold_is_named():
    ours = reached("ours", 30.0, trained=True, threshold=0.2)
    weak, strong = (reached(n, m, trained=False) for n, m in (("weak", 29.9), ("strong", 30.0)))
    assert not_beaten([*ours, *weak]) == []
    (complaint,) = not_beaten([*ours, *weak, *strong])
    assert "strong with 30.00" in complaint and "1-shot" in complaint and "30.00" in complaint


def doctored(pipeline: Pipeline, path: Path, **facts: Any) -> Path:
    """The pipeline's best checkpoint with some of its facts changed."""
    checkpoint.save(path, checkpoint.load(pipeline.folder / "best.pt") | facts)
    return path


def test_a_model_that_does_not_beat_the_baselines_ends_with_status_1_and_says_so(
    pipeline, tmp_path, capsys
):
    timid = doctored(pipeline, tmp_path / "timid.pt", threshold=0.95)  # foreground hardly anywhere
    stale = tmp_path / "run/panels/1shot_best_1_99_ship.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    demand = {"test_must_beat_baselines": "true", "test_baselines": "false", "test_panels": 0}
    assert in_process(pipeline, tmp_path / "run", test_checkpoint=timid, **demand) == 1
    said = capsys.readouterr()
    assert (
        "FAILED: 1-shot: the trained MGCL, timid (epoch 1)" in said.err
        and "everything foreground" in said.err
    )
    assert (tmp_path / "run/report.md").exists()
    assert not stale.exists()  # an earlier test's


def test_a_manifest_reads_back_to_the_same_numbers_and_a_threshold_of_ones_own_has_its_row(
    pipeline, tmp_path
):
    manifest = pipeline.folder / "episodes_1shot.jsonl"
    own = {
        "test_episodes": manifest,
        "test_threshold": 0.33,
        "test_max_episodes": 0,
        "data_workers": 2,
    }
    assert in_process(pipeline, tmp_path / "again", **own) == 0
    found, before = (
        {
            (r["method"], r["threshold_kind"], r["threshold"]): r
            for r in rows(folder)
            if r["shots"] == 1 and "last" not in r["checkpoints"][:1]
        }
        for folder in (tmp_path / "again", pipeline.folder)
    )
    assert set(found) - set(before) == {("MGCL", "own", 0.33)}
    shared = found.keys() & before.keys()
    assert len(shared) == 5  # ours at two thresholds, three baselines
    for key in shared:
        assert found[key]["class_iou"] == before[key]["class_iou"], key
        assert (found[key]["miou"], found[key]["fb_iou"]) == (
            before[key]["miou"],
            before[key]["fb_iou"],
        )
    assert (tmp_path / "again/episodes_1shot.jsonl").read_bytes() == manifest.read_bytes()


def test_votes_and_means_of_five_supports_each_have_the_threshold_that_suits_five(pipeline):
    config = load(words(pipeline.root, pipeline.masks, pipeline.folder))
    source, setup = build_source(config), build_setup(config, torch.device("cpu"))
    (candidate,) = score.load_candidates(config, setup.device)[:1]
    part = build_test(config, source, shots=5)
    found = score.score(config, source, candidate, part, 5, setup)
    heldout = of_shots(build_heldout(config, source), 5)
    episodes = evaluation_loader(candidate.model, heldout, config, setup)
    wanted = evaluate(
        candidate.model, episodes, heldout.ids, heldout.class_ids, setup=setup, means=True
    )
    assert [r.candidate.rule for r in found] == ["vote", "mean"]
    thresholds = [r.candidate.threshold for r in found]
    assert thresholds == [wanted.best_threshold(), wanted.of_means.best_threshold()]
    assert not torch.equal(found[0].evaluation.counts, found[1].evaluation.counts)
    (one,) = score.score(config, source, candidate, build_test(config, source, 1), 1, setup)
    assert one.candidate is candidate
    unknown = candidate._replace(threshold=None)  # the authors' weights
    found = score.score(config, source, unknown, part, 5, setup)
    assert [r.candidate.threshold for r in found] == [None, None]


def test_the_manifest_holds_the_tested_episodes(pipeline):
    for shots in (1, 5):
        text = (pipeline.folder / f"episodes_{shots}shot.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert len(lines) == 7
        assert all(len(set(line["supports"]) - {line["query"]}) == shots for line in lines)
        assert {line["label_id"] for line in lines} <= {1, 2, 3, 4, 5}
        assert {line["split"] for line in lines} == {"val"}


@pytest.mark.parametrize(
    "constants, said",
    [
        ({"test_shots": "[1,5]"}, "holds 1-shot episodes.*asks for 5.*--test.shots 1"),
        ({"data_fold": 1}, "class ids .* not novel in fold 1"),
        ({"test_episodes": "nothing.jsonl"}, "nothing.jsonl"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_before_anything_is_scored(
    pipeline, tmp_path, capsys, constants, said
):
    constants = {"test_episodes": pipeline.folder / "episodes_1shot.jsonl"} | constants
    assert in_process(pipeline, tmp_path / "run", **constants) == 1
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "constants, said",
    [
        ({"data_fold": 1}, ["trained for isaid, fold 0", "isaid, fold 1", "data.fold"]),
        ({"model_mgfe": "false"}, ["other constants", "model.mgfe True -> False"]),
        ({"model_decoder_masks": "false"}, ["model.decoder_masks True -> False"]),
        ({"test_checkpoint": "nothing.pt"}, ["nothing.pt", "main_1_mgcl_train.py"]),
    ],
)
def test_a_checkpoint_that_does_not_belong_here_is_refused(
    pipeline, tmp_path, capsys, constants, said
):
    assert in_process(pipeline, tmp_path / "run", **constants) == 1
    message = capsys.readouterr().err
    assert [part for part in said if part not in message] == []


def test_weights_that_say_nothing_of_themselves_get_a_warning_and_no_calibrated_threshold(
    pipeline, tmp_path, capsys
):
    plain = tmp_path / "plain.pt"
    checkpoint.save(plain, checkpoint.load(pipeline.folder / "best.pt")["model"])
    few = {"test_max_episodes": 2, "test_baselines": "false"}
    assert in_process(pipeline, tmp_path / "run", test_checkpoint=plain, **few) == 0
    assert "plain.pt does not say on which fold" in capsys.readouterr().err
    (row,) = rows(tmp_path / "run")
    assert (row["method"], row["checkpoints"], row["epoch"]) == ("MGCL", [str(plain)], 0)
    assert (row["threshold_kind"], row["threshold"]) == ("0.5", 0.5)
    assert "no calibrated threshold" in (tmp_path / "run/report.md").read_text()


def test_a_checkpoint_is_tested_as_the_network_that_it_holds_whatever_the_constants_say(
    pipeline, tmp_path, capsys
):
    few = {"test_max_episodes": 5, "test_baselines": "false", "test_panels": 0}
    assert in_process(pipeline, tmp_path / "plain", **few) == 0
    other = {"model_head": "mgcl+matcher", "model_backbone": "resnet50"}
    assert in_process(pipeline, tmp_path / "other", **few, **other) == 0
    said = "model.head mgcl+matcher -> mgcl; model.backbone resnet50 -> efficientnet_lite0"
    assert said in capsys.readouterr().err
    assert rows(tmp_path / "other") == rows(tmp_path / "plain")


def test_seen_classes_are_tested_if_asked_for_and_the_report_says_so(pipeline, tmp_path, capsys):
    few = {"test_max_episodes": 5, "test_baselines": "false", "data_fold": 1, "test_panels": 0}
    assert in_process(pipeline, tmp_path / "run", **few) == 1
    assert "--test.allow_seen_classes true" in capsys.readouterr().err
    assert in_process(pipeline, tmp_path / "run", **few, test_allow_seen_classes="true") == 0
    said = "was trained for isaid, fold 0, whose training classes include novel ones of isaid"
    assert said in capsys.readouterr().err
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert said in report["warnings"][0] and "no few-shot scores" in report["warnings"][0]


def test_more_shots_than_a_class_has_images_are_refused_before_anything_is_scored(
    pipeline, tmp_path, capsys
):
    assert in_process(pipeline, tmp_path / "run", test_shots="[1,500]") == 1
    said = capsys.readouterr().err
    assert re.search(r"class \d+ \(\w+\) has \d+ image\(s\).*needs 501.*number of shots", said)
    assert not (tmp_path / "run").exists()


def test_best_and_last_are_both_reported_unless_they_are_one(pipeline, tmp_path):
    cpu = torch.device("cpu")
    for epochs, names in (
        ((1, 2), ["MGCL, best (epoch 1)", "MGCL, last (epoch 2)"]),
        ((2, 2), ["MGCL, best = last (epoch 2)"]),
    ):
        folder = tmp_path / f"run{epochs[0]}"
        for name, epoch in zip(("best", "last"), epochs, strict=True):
            doctored(pipeline, folder / f"{name}.pt", epoch=epoch)
        config = load(words(pipeline.root, pipeline.masks, folder))
        assert [c.method.words for c in score.load_candidates(config, cpu)] == names
    (last,) = score.load_candidates(load(with_checkpoint(pipeline, folder, "last")), cpu)
    assert last.method.words == "MGCL, last (epoch 2)"
    # in the middle of an epoch the last is not the best one
    doctored(pipeline, folder / "last.pt", epoch=2, seen=40)
    config = load(words(pipeline.root, pipeline.masks, folder))
    assert [c.method.words for c in score.load_candidates(config, cpu)] == [
        "MGCL, best (epoch 2)",
        "MGCL, last (epoch 2 and 40 episodes)",
    ]


def with_checkpoint(pipeline: Pipeline, folder: Path, which: str) -> list[str]:
    return words(pipeline.root, pipeline.masks, folder, test_checkpoint=which)


def drawn(part: EpisodeSet) -> set[lists.Entry]:
    """Every entry that the episodes draw, queries and supports."""
    specs = [part.dataset.plan(i) for i in part.ids]
    return {entry for spec in specs for entry in (spec.query, *spec.supports)}


def images(config: Config, entries: set[lists.Entry]) -> set[str]:
    return {benchmark(config).mask_key(entry.split, entry.name) for entry in entries}


@pytest.mark.parametrize("fold", [0, 1, 2])
@pytest.mark.parametrize("name", ["isaid", "dlrsd"])
def test_calibration_sees_no_image_of_the_test_fold_or_of_the_training(
    name, fold, isaid_root, tmp_path
):
    constants: dict[str, Any] = {"data_benchmark": name, "masks_generator": "none"}
    constants |= {"data_fold": fold, "train_calibration_episodes": 1000}
    if name == "dlrsd":
        constants |= {"data_holdout": 0.4, "data_lists_dir": shared_lists(tmp_path)}
    config = load(words(isaid_root, tmp_path, tmp_path / "run", **constants))
    source = build_source(config)
    heldout = build_heldout(config, source)
    training, test = build_training(config, source), build_test(config, source, shots=1)
    everything = test._replace(ids=range(len(test.dataset.plan)))
    assert len(heldout.ids) > 20 and "held-out" in heldout.source
    asked = {heldout.dataset.plan(i).class_id for i in heldout.ids}
    assert set(heldout.class_ids) == asked
    assert {*heldout.class_ids, *heldout.absent} == {*benchmark(config).train_class_ids(fold)}
    assert {e.class_id for e in drawn(heldout)} <= set(heldout.class_ids)
    seen = images(config, drawn(heldout))
    assert seen & images(config, drawn(everything)) == set()
    assert seen & images(config, set(training.dataset.plan.entries)) == set()
    assert build_validation(config, source, heldout) is heldout  # as the demo chooses
    again = build_heldout(config, build_source(config))
    assert [again.dataset.plan(i) for i in again.ids] == [
        heldout.dataset.plan(i) for i in heldout.ids
    ]


def shared_lists(folder: Path) -> Path:
    """DLRSD's kind of lists: 200 images of two classes each, a third of them in the test lists."""
    entries = [
        lists.Entry(split, f"beach{i:03d}", class_id)
        for i in range(200)
        for split in ("train", "val")[: 1 + (i % 3 == 0)]
        for class_id in (i % 15, (7 * i + 3) % 15)
    ]
    lists.write_lists(BENCHMARKS["dlrsd"], folder / "lists", entries)
    return folder / "lists"


def test_where_nothing_is_held_out_the_words_say_so(dlrsd_root, tmp_path):
    constants = {"data_benchmark": "dlrsd", "masks_generator": "none"}
    config = load(words(dlrsd_root, tmp_path, tmp_path / "run", **constants))
    heldout = build_heldout(config, build_source(config))
    assert heldout.source == (
        "6 episodes on training images of the training classes (data.holdout is 0)"
    )


def test_the_published_validation_is_the_fold_s_own_list_on_fixed_supports(isaid_root, tmp_path):
    constants = {"masks_generator": "none", "train_validation": "test_fold"}
    sets = []
    for seed in (0, 1):
        line = words(isaid_root, tmp_path, tmp_path / "run", train_seed=seed, **constants)
        config = load(line)
        source = build_source(config)
        sets.append(build_validation(config, source, build_heldout(config, source)))
    first, second = ([s.dataset.plan(i) for i in s.ids] for s in sets)
    assert first == second and sets[0].class_ids == (0, 1, 2, 3, 4)
    fold = lists.test_entries(
        benchmark(config), config.lists_dir, 0, published=config.data.lists == "published"
    )
    assert [spec.query for spec in first] == fold
    assert sets[0].source == f"{len(fold)} episodes of the test fold's list"
