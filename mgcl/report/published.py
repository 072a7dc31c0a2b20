"""The published numbers, as facts: the paper's and its authors' logs', never this program's.

Li, Liu, Jiao, Liu, Chen, Li: Mask-Guided Correlation Learning for Few-Shot Segmentation in Remote
Sensing Imagery, IEEE TGRS 2024, doi 10.1109/TGRS.2024.3417965. Percent.
"""

from typing import NamedTuple

SOURCE = "Li et al., IEEE TGRS 2024, doi 10.1109/TGRS.2024.3417965"
WORDS = f"mIoU from the paper's tables, FB-IoU and class IoUs from its authors' logs: {SOURCE}."

Folds = tuple[float, float, float]

# (benchmark, backbone, shots): the paper's tables.
MIOU: dict[tuple[str, str, int], Folds] = {
    ("isaid", "resnet50", 1): (42.77, 30.59, 46.39),
    ("isaid", "resnet50", 5): (49.14, 32.58, 52.75),
    ("dlrsd", "resnet50", 1): (30.37, 50.57, 43.01),
    ("dlrsd", "resnet50", 5): (33.64, 54.84, 52.34),
}
MEAN_MIOU: dict[tuple[str, str, int], float] = {
    ("isaid", "resnet50", 1): 39.92,
    ("isaid", "resnet50", 5): 44.82,
    ("dlrsd", "resnet50", 1): 41.32,
    ("dlrsd", "resnet50", 5): 46.94,
    ("isaid", "vgg16", 1): 35.69,
    ("isaid", "vgg16", 5): 41.06,
    ("isaid", "resnet101", 1): 40.86,
    ("isaid", "resnet101", 5): 45.33,
}

# Not in the tables, from the authors' logged runs.
FB_IOU: dict[tuple[str, str, int], Folds] = {
    ("isaid", "resnet50", 1): (62.60, 55.60, 58.52),
    ("isaid", "resnet50", 5): (66.16, 57.06, 62.11),
}
CLASS_IOU: dict[tuple[str, str, int], tuple[float, ...]] = {  # by class id
    ("isaid", "resnet50", 1): (
        33.75, 46.60, 49.52, 55.50, 28.50,
        32.14, 45.51, 35.79, 13.19, 26.34,
        45.73, 61.66, 46.11, 53.89, 24.56,
    ),
}  # fmt: skip


class Published(NamedTuple):
    """What is published of one fold; None and an empty dict where nothing is."""

    miou: float | None
    mean_miou: float | None
    """Over the three folds."""
    fb_iou: float | None
    class_iou: dict[int, float]
    """By 0-based class id, all folds."""


def find(benchmark: str, backbone: str, *, shots: int, fold: int) -> Published | None:
    """The published numbers of a set-up, or None where the paper has none."""
    key = (benchmark, backbone, shots)
    if key not in MEAN_MIOU or fold not in range(3):
        return None
    return Published(
        MIOU[key][fold] if key in MIOU else None,
        MEAN_MIOU[key],
        FB_IOU[key][fold] if key in FB_IOU else None,
        dict(enumerate(CLASS_IOU.get(key, ()))),
    )
