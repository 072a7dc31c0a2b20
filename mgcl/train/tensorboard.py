"""What TensorBoard shows of a run besides its curves: their layout, and the table of runs."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgcl.images.write import encode_png

_SCORES = {"mIoU": "miou", "FB-IoU": "fb_iou"}
_THRESHOLDS = {"threshold 0.5": "", "calibrated threshold": "_calibrated"}
_PARTS = ("train/", "validation/", "validation/heldout_")

# The page "custom scalars": category -> chart -> its tags, as regular expressions. TensorBoard
# colours by run: a chart has few curves, which their markers tell apart.
LAYOUT = {
    "training against validation": {
        f"{score}, {threshold}": ["Multiline", [f"^{part}{tag}{end}$" for part in _PARTS]]
        for score, tag in _SCORES.items()
        for threshold, end in _THRESHOLDS.items()
    },
    "training": {
        "loss": ["Multiline", ["^train/loss$"]],
        "learning rates": ["Multiline", ["^rate/"]],
        "calibrated threshold": ["Multiline", ["^validation/threshold$"]],
    },
}

DATA = "data"  # what the pictures are and where they lie, in words
# The page "hparams" shows five constants and five metrics unasked: these.
FIRST = (DATA, "data.fold", "model.backbone", "train.lr", "train.seed")
CATEGORIES = ("data.fold", "train.seed")  # numbers that name something
METRICS = (
    "validation/miou_calibrated",
    "validation/miou",
    "validation/fb_iou",
    "train/miou",
    "validation/threshold",
)


def layout(classes: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """All charts: a chart of its own for each class that is validated, in both thresholds."""
    charts = {
        name.replace("_", " "): ["Multiline", [f"^class_iou(_calibrated)?/{re.escape(name)}$"]]
        for name in classes
    }
    return {**LAYOUT, "IoU of each class of the validation": charts}


def add_layout(writer: Any, classes: Sequence[str]) -> None:
    """Lay out the curves that belong together in common charts."""
    writer.add_custom_scalars(layout(classes))


def add_constants(writer: Any, constants: Mapping[str, bool | float | str]) -> None:
    """Enter the run, with the constants by which runs compare, into the table of runs.

    It is written into the run's own events: the writer's `add_hparams` would make a further run
    without the curves.
    """
    from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo, MetricInfo, MetricName
    from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    values = {k: str(v) if k in CATEGORIES else v for k, v in constants.items()}
    kinds = {bool: "DATA_TYPE_BOOL", str: "DATA_TYPE_STRING"}
    table = Experiment(
        hparam_infos=[
            HParamInfo(
                name=key, type=kinds.get(type(value), "DATA_TYPE_FLOAT64"), differs=key in FIRST
            )
            for key, value in values.items()
        ],
        metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in METRICS],
    )
    run = SessionStartInfo(start_time_secs=time.time())
    for key, value in values.items():
        entry = run.hparams[key]
        if isinstance(value, bool):
            entry.bool_value = value
        elif isinstance(value, str):
            entry.string_value = value
        else:
            entry.number_value = value
    writer.file_writer.add_summary(_summary(EXPERIMENT_TAG, experiment=table))
    writer.file_writer.add_summary(_summary(SESSION_START_INFO_TAG, session_start_info=run))


def add_picture(writer: Any, tag: str, picture: np.ndarray, step: int) -> None:
    """Show a picture (h, w, 3) uint8; the writer's `add_image` takes four times as long to pack."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    height, width, depth = picture.shape
    packed = encode_png(picture, level=2)
    image = Summary.Image(height=height, width=width, colorspace=depth, encoded_image_string=packed)
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def _summary(tag: str, **content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=PLUGIN_DATA_VERSION, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=data)
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])
