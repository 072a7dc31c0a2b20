"""Scoring a checkpoint, beside its baselines, on the same episodes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from mgcl import console, distributed
from mgcl.build import (
    build_trained,
    evaluation_loader,
    fold_warning,
    resolve_threshold,
    thresholds_to_try,
)
from mgcl.config import Config
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.manifest import write_manifest
from mgcl.datasets.sets import EpisodeSet
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.engine.forward import Setup
from mgcl.model.baselines import CosinePrototypes, EverythingForeground
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.pretrained import build_backbone

EVERYTHING, PROTOTYPES = "everything foreground", "cosine prototypes, untrained"


class Candidate(NamedTuple):
    """A network to score."""

    name: str
    model: FewShotNetwork
    threshold: float | None = None
    """Its calibrated threshold; None for a baseline or the authors' weights."""
    trained: bool = True
    age: str = ""
    """How long it was trained, in words; empty if the checkpoint does not say."""
    facts: Mapping[str, str] = MappingProxyType({})
    """What the checkpoint says of itself, for the report."""


class Result(NamedTuple):
    """What one candidate reached on the episodes of one number of shots."""

    candidate: Candidate
    shots: int
    evaluation: Evaluation
    specs: Mapping[int, EpisodeSpec] = MappingProxyType({})
    """The episodes' images by episode id."""


def load_candidates(config: Config, device: torch.device) -> list[Candidate]:
    """The checkpoints to test, the decisive one first.

    Raises:
        CheckpointError: missing, torn, of another network, or trained on the fold's novel classes.
    """
    wanted = config.test.checkpoint
    names = {"best": ["best"], "last": ["last"], "both": ["best", "last"]}.get(wanted)
    paths = [config.run_dir / f"{name}.pt" for name in names] if names else [Path(wanted)]
    candidates = [load_candidate(config, path, device) for path in paths]
    ages = {candidate.age for candidate in candidates}
    if len(candidates) == 2 and len(ages) == 1 and "" not in ages:
        return [candidates[0]._replace(name=f"MGCL, best = last ({candidates[0].age})")]
    return candidates


def load_candidate(config: Config, path: Path, device: torch.device) -> Candidate:
    """One checkpoint, of this project or of the authors."""
    model, _, said = build_trained(config, path)
    warning = fold_warning(said, config, path)
    age = _age(said)
    name = f"MGCL, {path.stem}" + (f" ({age})" if age else "")
    facts = {f"{path.stem} checkpoint": str(path)}
    if warning:
        facts["WARNING"] = warning
        if distributed.is_main():
            console.warn(warning)
    for key in ("chosen_on", "calibrated_on"):
        if key in said:
            facts[key.replace("_", " ")] = said[key]
    if said.get("forced"):
        facts["changed in training"] = "; ".join(said["forced"])
    return Candidate(name, model.to(device), said.get("threshold"), age=age, facts=facts)


def _age(said: Mapping[str, Any]) -> str:
    """Finished epochs, and episodes of the one under way."""
    epochs = [f"epoch {said['epoch']}"] if said.get("epoch") else []
    episodes = [f"{said['seen']} episodes"] if said.get("seen") else []
    return " and ".join(epochs + episodes)


def load_baselines(config: Config, device: torch.device) -> list[Candidate]:
    """Everything-foreground and the prototypes of the untrained backbone."""
    if not (config.test.baselines or config.test.must_beat_baselines):
        return []
    backbone = build_backbone(config.model.backbone, config.model.weights)
    prototypes = CosinePrototypes(backbone.to(device))
    return [
        Candidate(EVERYTHING, EverythingForeground(), trained=False),
        Candidate(PROTOTYPES, prototypes, trained=False),
    ]


def score(
    config: Config, candidate: Candidate, part: EpisodeSet, shots: int, setup: Setup
) -> Result:
    """Evaluate one candidate on the episodes, at every threshold where that has a meaning."""
    batches = console.progress(
        evaluation_loader(part, config),
        desc=f"{shots}-shot, {candidate.name}",
        unit="batch",
    )
    evaluation = evaluate(
        candidate.model,
        batches,
        part.ids,
        part.class_ids,
        setup=setup,
        thresholds=thresholds_to_try(config.test.threshold) if candidate.trained else (0.5,),
        vote_share=config.test.vote_share,
    )
    return Result(candidate, shots, evaluation, {i: part.dataset.plan(i) for i in part.ids})


def write_episodes(config: Config, part: EpisodeSet, shots: int) -> Path:
    """Write the manifest of the test's episodes into the run's folder."""
    path = config.run_dir / f"episodes_{shots}shot.jsonl"
    write_manifest(path, [part.dataset.plan(i) for i in part.ids])
    return path


def not_beaten(results: list[Result]) -> list[str]:
    """Complaints, one for each baseline that the model does not beat in mIoU at its threshold."""
    complaints = []
    for shots in sorted({r.shots for r in results}):
        here = [r for r in results if r.shots == shots]
        ours = (
            here[0]
            .evaluation.scores(resolve_threshold("calibrated", here[0].candidate.threshold))
            .miou
        )
        for other in here:
            theirs = other.evaluation.scores(0.5).miou
            if not other.candidate.trained and ours <= theirs:
                complaints.append(
                    f"{shots}-shot: mIoU {ours:.2f} at the calibrated threshold does not beat "
                    f"{other.candidate.name} with {theirs:.2f}"
                )
    return complaints
