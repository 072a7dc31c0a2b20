"""What TensorBoard shows of a run, read back from its events."""

import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from mgcl.train import tensorboard


@pytest.fixture(scope="module")
def events(pipeline) -> EventAccumulator:
    """The events of the small experiment's training."""
    return EventAccumulator(str(pipeline.folder / "tensorboard")).Reload()


def test_every_chart_of_the_layout_finds_a_curve(events):
    tensor = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(tensor)
    asked = {tag.partition("/")[2] for tag in events.Tags()["scalars"] if "class_iou/" in tag}
    assert asked
    titles = [category.title for category in layout.category]
    assert titles == [*tensorboard.LAYOUT, "IoU of each class of the validation"]
    assert len(layout.category[-1].chart) == 10, "a chart of its own for each class"
    for chart in (chart for category in layout.category for chart in category.chart):
        for pattern in chart.multiline.tag:
            if chart in layout.category[-1].chart and chart.title not in asked:
                continue  # a class without an episode in this tiny validation
            assert [tag for tag in events.Tags()["scalars"] if re.search(pattern, tag)], pattern


def test_the_run_stands_in_the_table_of_runs_with_its_constants(events, pipeline):
    found = events.PluginTagToContent(metadata.PLUGIN_NAME)
    start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["train.lr"].number_value == 0.001
    words = f"synthetic scenes in the tree of isaid ({pipeline.root})"
    assert start.hparams["data"].string_value == words
    assert start.hparams["train.seed"].string_value == "0"
    assert start.hparams["model.mgfe"].bool_value is True
    table = metadata.parse_experiment_plugin_data(found[metadata.EXPERIMENT_TAG])
    assert {info.name for info in table.hparam_infos if info.differs} == set(tensorboard.FIRST)
    assert {m.name.tag for m in table.metric_infos} <= set(events.Tags()["scalars"])
    assert [
        path.name for path in (pipeline.folder / "tensorboard").iterdir() if path.is_dir()
    ] == []


def test_config_and_panels_of_every_epoch_are_there(events):
    assert "config/text_summary" in events.Tags()["tensors"]
    panels = [tag for tag in events.Tags()["images"] if tag.startswith("episodes/")]
    assert panels and {len(events.Images(tag)) for tag in panels} == {2}
