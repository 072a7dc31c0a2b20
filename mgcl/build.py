"""From the config to what a run computes with: network, set-up, batches to evaluate, thresholds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from mgcl import checkpoint, console, distributed
from mgcl.checkpoint import CheckpointError
from mgcl.config import Config, explain, with_values
from mgcl.config.compare import read_saved, unknown_constants
from mgcl.datasets.loader import in_batches
from mgcl.datasets.sets import EpisodeSet, Source, build_pool, of_shots
from mgcl.device import keep_freed_memory, make_reproducible
from mgcl.engine.calibration import fit_threshold
from mgcl.engine.encoding import EncodedLoader, by_class
from mgcl.engine.evaluation import THRESHOLDS
from mgcl.engine.features import FeatureStore
from mgcl.engine.forward import Setup
from mgcl.engine.presence import fit_presence, gather_pool
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.matcher import Matcher
from mgcl.model.matching import FITTED_SHOTS
from mgcl.model.network import MGCL, SegmentationHead, build_model
from mgcl.model.pretrained import build_backbone
from mgcl.model.residual import ResidualMGCL


def build_network(config: Config) -> MGCL | Matcher | ResidualMGCL:
    """The configured network; its random part depends on train.seed alone."""
    make_reproducible(
        config.train.seed, threads=config.run.threads, deterministic=config.train.deterministic
    )
    keep_freed_memory()
    if config.model.head == "matcher":
        backbone = build_backbone(config.model.backbone, config.model.weights)
        trained = config.model.metric == "trained"
        return Matcher(backbone, trained=trained, turns=config.model.turns)
    if config.model.head == "mgcl+matcher":
        backbone = build_backbone(config.model.backbone, config.model.weights)
        head = SegmentationHead(
            mgfe=config.model.mgfe,
            background=config.model.background,
            decoder_masks=config.model.decoder_masks,
        )
        return ResidualMGCL(backbone, head, turns=config.model.turns)
    model = build_model(
        config.model.backbone,
        config.model.weights,
        mgfe=config.model.mgfe,
        background=config.model.background,
        decoder_masks=config.model.decoder_masks,
    )
    model.backbone.requires_grad_(not config.train.freeze_backbone)
    return model


def with_network_of(config: Config, path: Path) -> Config:
    """The constants, but with the kind of network that a checkpoint holds; a warning says it.

    Its weights can be of no other. A checkpoint that does not say what it is (the authors') leaves
    the constants as they are.

    Raises:
        CheckpointError: missing or torn.
    """
    said = checkpoint.load(path).get("config")
    if said is None:
        return config
    held = {key: read_saved(said)["model"][key] for key in ("head", "metric", "turns", "backbone")}
    now = config.model.model_dump()
    others = [key for key in held if now[key] != held[key]]
    if others and distributed.is_main():
        differing = "; ".join(f"model.{key} {now[key]} -> {held[key]}" for key in others)
        console.warn(f"the network is the one that {path} holds: {differing}")
    return with_values(config, model=held) if others else config


class Trained(NamedTuple):
    """What a checkpoint holds."""

    model: MGCL | Matcher | ResidualMGCL
    config: Config
    facts: Mapping[str, Any]
    """Epoch, calibrated threshold and the like, as the checkpoint says them."""


def build_trained(config: Config | None, path: Path) -> Trained:
    """The network of a checkpoint, of this project or of the authors.

    Args:
        config: its constants; None takes those that the checkpoint was trained with.
        path: the file; it is read once.

    Raises:
        CheckpointError: missing, torn, of another network, or without constants.
    """
    state = checkpoint.load(path)
    config = config or _trained_with(path, state.get("config"))
    _refuse_other_network(state, config, path)
    model = build_network(with_values(config, model={"weights": "none"}))
    return Trained(model, config, checkpoint.take_weights(model, state, str(path)))


def _trained_with(path: Path, said: Any) -> Config:
    """The constants that a checkpoint says it was trained with."""
    if said is None:
        raise CheckpointError(
            f"{path} does not say how it was trained: give --config, for the authors' "
            "weights configs/isaid_resnet50.toml or the like"
        )
    try:
        free, unknown = unknown_constants(said, harmless=("run", "train"))
        if unknown:
            raise CheckpointError(
                f"{path} was trained with constants that are unknown here: {'; '.join(unknown)}. "
                "Use the version of this program that made it, or give all constants by --config"
            )
        config = Config(**read_saved(said))
    except ValidationError as error:
        raise CheckpointError(
            f"{path} was made by another version:\n{explain(error)}\ngive the constants by --config"
        ) from None
    if free:
        console.warn(f"{path} has {'; '.join(free)}, unknown here: no result depends on it")
    return config


def _refuse_other_network(said: Mapping[str, Any], config: Config, path: Path) -> None:
    """MGFE has no parameters: only the checkpoint's constants tell whether it was trained with it.

    Raises:
        CheckpointError: a constant of [model] is not the one of the training.
    """
    if "config" not in said:
        return
    trained = read_saved(said["config"])["model"]
    tested = config.model.model_dump(mode="json", exclude={"weights"})
    differing = [
        f"model.{key} {trained[key]} -> {value}"
        for key, value in tested.items()
        if trained[key] != value
    ]
    others = ("run", "data", "masks", "train", "test")
    _, unknown = unknown_constants(said["config"], harmless=others)
    differing += [f"{text} -> unknown here" for text in unknown]
    if differing:
        raise CheckpointError(
            f"{path} was trained with other constants: {'; '.join(differing)}. Set them as there"
        )


def fold_warning(said: Mapping[str, Any], config: Config, path: Path) -> str:
    """What the report has to say of the checkpoint's fold; empty if it is the tested one.

    Raises:
        CheckpointError: it is another one, so that novel classes were trained on, and
            test.allow_seen_classes is off.
    """
    if "config" not in said:
        return f"{path} does not say on which fold it was trained; make sure that it fits"
    data = said["config"]["data"]
    if (data["benchmark"], data["fold"]) == (config.data.benchmark, config.data.fold):
        return ""
    problem = (
        f"{path} was trained for {data['benchmark']}, fold {data['fold']}, whose training "
        f"classes include novel ones of {config.data.benchmark}, fold {config.data.fold}"
    )
    if config.test.allow_seen_classes:
        return f"{problem}: these are no few-shot scores"
    raise CheckpointError(
        f"{problem}: set data.fold to the checkpoint's (--test.allow_seen_classes true tests "
        "nevertheless, and the report says so)"
    )


def build_setup(config: Config, device: torch.device) -> Setup:
    """How a forward pass is done."""
    half = config.run.features_dtype == "float16"
    features = FeatureStore(int(config.run.features_gib * 2**30), half=half)
    background = config.data.ignore_label == "background"
    return Setup(device, config.train.precision, background, features)


def evaluation_loader(
    network: FewShotNetwork, part: EpisodeSet, config: Config, setup: Setup
) -> EncodedLoader:
    """Episodes as `engine.evaluate` takes them, encoded by the network that it is to evaluate."""
    return EncodedLoader(
        network,
        part.dataset,
        by_class(part.dataset, part.ids, config.test.batch_size),
        setup=setup,
        workers=config.data.workers,
    )


def matcher_of(network: FewShotNetwork) -> Matcher | None:
    """The network, if it is a matcher, or the one below it; its levels are then the first."""
    inner = network.matcher if isinstance(network, ResidualMGCL) else network
    return inner if isinstance(inner, Matcher) else None


def fit_thresholds(
    network: FewShotNetwork, heldout: EpisodeSet, config: Config, setup: Setup
) -> None:
    """Learn where its matcher splits its maps, for each number of supports that the data allow."""
    matcher = matcher_of(network)
    assert matcher is not None
    for shots in FITTED_SHOTS:
        part = of_shots(heldout, shots)
        if part.ids:
            episodes = evaluation_loader(network, part, config, setup)
            fit_threshold(matcher, episodes, shots=shots, setup=setup)


def begin(network: FewShotNetwork, heldout: EpisodeSet, config: Config, setup: Setup) -> None:
    """Before the first step: what a matcher learns that no step changes.

    That is whether an image shows a class at all and, where it is not trained, its thresholds. The
    images are encoded by the whole network, as the training needs them.
    """
    matcher = matcher_of(network)
    if matcher is None:
        return
    source = heldout.dataset.source
    assert isinstance(source, Source)
    learn_presence(network, source, config, setup)
    if matcher is not network:
        fit_thresholds(network, heldout, config, setup)


def learn_presence(network: FewShotNetwork, source: Source, config: Config, setup: Setup) -> None:
    """Its matcher learns to tell whether an image shows a class, by images of training classes."""
    matcher, pool = matcher_of(network), build_pool(source)
    assert matcher is not None
    batches = EncodedLoader(
        network.eval(),
        pool,
        in_batches(range(len(pool.entries)), config.test.batch_size),
        setup=setup,
        workers=config.data.workers,
    )
    classes = source.benchmark.train_class_ids(config.data.fold)
    fit_presence(matcher.presence, gather_pool(batches, classes))


def thresholds_to_try(wanted: float | str) -> tuple[float, ...]:
    """The thresholds of an evaluation, test.threshold among them if it is a number."""
    return THRESHOLDS if isinstance(wanted, str) else tuple(sorted({*THRESHOLDS, wanted}))


def resolve_threshold(wanted: float | str, calibrated: float | None) -> float:
    """The number behind test.threshold; 0.5 where nothing is calibrated yet."""
    if wanted != "calibrated":
        return float(wanted)
    return 0.5 if calibrated is None else calibrated
