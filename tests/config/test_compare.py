"""Which constants a resumed run keeps, and by which a sweep compares."""

import pytest

from mgcl.config import Config, with_values
from mgcl.config.compare import (
    LEARNING,
    TESTED,
    compared_constants,
    different_constants,
    marks,
    read_saved,
    unknown_constants,
)
from mgcl.config.sections import Mark
from tests.config.test_config import CONSTANTS

FREE = """
    run.name run.root run.device run.threads run.features_gib run.quiet
    data.root data.lists_dir data.workers data.cache_gib
    masks.root masks.sam_checkpoint masks.image_batch masks.prompt_batch masks.compile masks.shard
    masks.images
    train.accumulate train.log_every train.save_every train.resume train.force
    test.shots test.batch_size test.panels
"""
COMPARED = """
    data.benchmark data.fold data.image_size data.min_object data.ignore_label data.novel_pixels
    masks.generator
    model.head model.metric model.turns model.backbone model.weights model.mgfe model.background
    model.decoder_masks
    train.seed train.epochs train.episodes_per_epoch train.batch_size train.optimizer train.lr
    train.momentum train.weight_decay train.poly_power train.freeze_backbone train.loss
    train.precision train.validation
"""


def marked(*wanted: Mark) -> list[str]:
    return [name for name, mark in marks().items() if mark in wanted]


def test_every_constant_has_one_mark():
    assert list(marks()) == [f"{section}.{key}" for section, key in CONSTANTS]
    for field in Config.model_fields.values():
        for constant in field.annotation.model_fields.values():
            assert sum(isinstance(entry, Mark) for entry in constant.metadata) == 1


def test_the_marks_say_what_may_change():
    assert marked(Mark.FREE) == FREE.split()
    assert marked(Mark.COMPARED) == list(compared_constants(Config())) == COMPARED.split()
    assert marked(Mark.CHOOSING) == ["test.threshold", "test.supports"]
    kept = {
        name for name in marks() if name.partition(".")[0] in ("data", "masks", "model", "train")
    }
    assert set(marked(*LEARNING)) == (kept - set(FREE.split())) | {"run.features_dtype"}
    assert set(marked(*TESTED)) == set(marks()) - set(FREE.split())


def test_only_what_counts_is_named_when_it_differs():
    saved = Config().model_dump(mode="json", exclude_none=True)
    now = with_values(
        Config(),
        data={"workers": 0, "lists_dir": "elsewhere"},
        train={"lr": 0.02},
        test={"threshold": 0.3, "seed": 7},
    )
    assert different_constants(saved, now) == ["train.lr 0.01 -> 0.02"]
    choosing = ["train.lr 0.01 -> 0.02", "test.threshold 0.5 -> 0.3"]
    assert different_constants(saved, now, counting={*LEARNING, Mark.CHOOSING}) == choosing
    tested = [*choosing, "test.seed 0 -> 7"]
    assert different_constants(saved, now, counting=TESTED) == tested


def test_what_an_earlier_run_did_not_know_has_its_default_and_old_names_are_understood():
    assert read_saved({}) == Config().model_dump(mode="json")
    saved = {"test": {"cut": 0.25}, "train": {"lr": 0.5}}
    assert read_saved(saved)["test"]["threshold"] == 0.25
    assert Config(**read_saved(saved)) == with_values(
        Config(), test={"threshold": 0.25}, train={"lr": 0.5}
    )
    assert different_constants({}, with_values(Config(), model={"mgfe": False})) == [
        "model.mgfe True -> False"
    ]


def test_what_this_program_does_not_know_is_told_apart_by_what_depends_on_it():
    saved = {"run": {"colour": "red"}, "train": {"warmup": 5, "lr": 1}, "later": {"x": 1}, "y": 2}
    free, others = unknown_constants(saved, harmless=("run", "test"))
    assert (free, others) == (["run.colour red"], ["train.warmup 5", "later.x 1", "y 2"])
    assert unknown_constants({"test": {"cut": 0.5}}, harmless=()) == ([], [])


@pytest.mark.parametrize("saved", [5, None, [1]])
def test_constants_that_are_none_are_refused(saved):
    with pytest.raises(ValueError, match="constants are"):
        read_saved(saved)
