"""Scoring a checkpoint, beside its baselines, on the same episodes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from mgcl import console, distributed
from mgcl.build import (
    build_trained,
    evaluation_loader,
    fit_thresholds,
    fold_warning,
    learn_presence,
    thresholds_to_try,
    with_network_of,
)
from mgcl.config import Config
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.fingerprint import NO_FACTS, Facts, changed_facts
from mgcl.datasets.manifest import write_manifest
from mgcl.datasets.sets import EpisodeSet, Source, build_heldout, of_shots
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.engine.forward import Setup
from mgcl.model.baselines import CosinePrototypes, EverythingForeground
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.matcher import Matcher
from mgcl.model.pretrained import build_backbone
from mgcl.report.records import Method

EVERYTHING, PROTOTYPES = "everything foreground", "cosine prototypes, untrained"
MATCHER = "matcher, untrained"
VOTE, MEAN = "vote", "mean"  # rules by which answers to K supports become one
# Of the trained, by model.head.
NAMES = {"mgcl": "MGCL", "matcher": "matcher", "mgcl+matcher": "MGCL on the matcher"}
# By test.checkpoint, where that is not a file.
CHECKPOINTS = {"best": ["best"], "last": ["last"], "both": ["best", "last"]}


class Candidate(NamedTuple):
    """A network to score."""

    method: Method
    model: FewShotNetwork
    rule: str = ""
    """How its answers to K supports become one; empty if it gives a single one."""
    has_threshold: bool = False
    """Whether its answer is a probability, which thresholds decide on."""
    threshold: float | None = None
    """The calibrated one; None for a baseline or the authors' weights."""
    facts: Mapping[str, str] = MappingProxyType({})
    """What the checkpoint says of itself, for the report."""
    warning: str = ""


class Result(NamedTuple):
    """What one candidate reached on the episodes of one number of shots."""

    candidate: Candidate
    shots: int
    evaluation: Evaluation
    specs: Mapping[int, EpisodeSpec] = MappingProxyType({})
    """The episodes' images by episode id."""
    absent: Evaluation | None = None
    """Of the same supports with queries that do not show the class, if that was asked for."""

    @property
    def words(self) -> str:
        """For a curve: "5-shot", "5-shot, mean"."""
        rule = self.candidate.rule
        return f"{self.shots}-shot" + (f", {rule}" if rule == MEAN else "")


def with_tested_network(config: Config) -> Config:
    """The constants, with the kind of network that a file given as test.checkpoint holds.

    Raises:
        CheckpointError: missing or torn.
    """
    wanted = config.test.checkpoint
    return config if wanted in CHECKPOINTS else with_network_of(config, Path(wanted))


def load_candidates(
    config: Config, device: torch.device, data: Facts = NO_FACTS
) -> list[Candidate]:
    """The checkpoints to test, the decisive one first; `data` is what a training learns from now.

    Raises:
        CheckpointError: missing, torn, of another network, or trained on the fold's novel classes.
    """
    wanted = config.test.checkpoint
    names = CHECKPOINTS.get(wanted)
    paths = [config.run_dir / f"{name}.pt" for name in names] if names else [Path(wanted)]
    if config.model.head == "matcher" and config.model.metric == "untrained" and names:
        return []  # the baseline is all there is: nothing is trained
    candidates = [
        load_candidate(config, path, device, checkpoint=name, data=data)
        for name, path in zip(names or [wanted], paths, strict=True)
    ]
    ages = {(c.method.epoch, c.method.under_way) for c in candidates}
    if len(candidates) == 2 and len(ages) == 1 and (0, 0) not in ages:
        both = candidates[0].method._replace(checkpoints=("best", "last"))
        return [candidates[0]._replace(method=both)]
    return candidates


def load_candidate(
    config: Config,
    path: Path,
    device: torch.device,
    *,
    checkpoint: str,
    data: Facts = NO_FACTS,
) -> Candidate:
    """One checkpoint, of this project or of the authors; the report calls it `checkpoint`."""
    model, _, said = build_trained(config, path)
    found = [fold_warning(said, config, path)]
    if other := [*_other_inputs(said, config), *changed_facts(said.get("data") or {}, data)]:
        found.append(f"{path} was trained with other inputs than are tested: {'; '.join(other)}")
    warning = "; ".join(filter(None, found))
    if warning and distributed.is_main():
        console.warn(warning)
    facts = {f"{path.stem} checkpoint": str(path)}
    for key in ("chosen_on", "calibrated_on"):
        if key in said:
            facts[key.replace("_", " ")] = said[key]
    if said.get("forced"):
        facts["changed in training"] = "; ".join(said["forced"])
    age = (said.get("epoch") or 0, said.get("seen") or 0)
    method = Method(NAMES[config.model.head], (checkpoint,), *age, trained=True)
    return Candidate(
        method,
        model.to(device),
        rule=VOTE if config.model.head == "mgcl" else "",
        has_threshold=True,
        threshold=said.get("threshold"),
        facts=facts,
        warning=warning,
    )


def _other_inputs(said: Mapping[str, Any], config: Config) -> Iterator[str]:
    """Constants of the network's inputs that a checkpoint was trained with and the test has not."""
    trained = said.get("config", {})
    for section, names in (("masks", ("generator",)), ("data", ("image_size", "ignore_label"))):
        for name in names:
            then = trained.get(section, {}).get(name)
            now = getattr(getattr(config, section), name)
            if then not in (None, now):
                yield f"{section}.{name} {then} -> {now}"


def load_baselines(config: Config, source: Source, setup: Setup) -> list[Candidate]:
    """What needs no training: the matcher, prototypes, and everything foreground.

    All are of the untrained backbone. The matcher's thresholds are fitted on the held-out episodes
    of the training classes, as those of a training are.
    """
    alone = config.model.head == "matcher" and config.model.metric == "untrained"
    if not (alone or config.test.baselines or config.test.must_beat_baselines):
        return []
    backbone = build_backbone(config.model.backbone, config.model.weights).to(setup.device)
    matcher = Matcher(backbone, turns=config.model.turns).to(setup.device)
    heldout = build_heldout(config, source)
    fit_thresholds(matcher, heldout, config, setup)
    if config.test.absent:
        learn_presence(matcher, source, config, setup)
    facts = {"calibrated on": heldout.source} if alone else {}
    return [
        Candidate(Method(MATCHER), matcher, has_threshold=alone, facts=facts),
        Candidate(Method(PROTOTYPES), CosinePrototypes(backbone)),
        Candidate(Method(EVERYTHING), EverythingForeground()),
    ]


def score(
    config: Config,
    source: Source,
    candidate: Candidate,
    part: EpisodeSet,
    shots: int,
    setup: Setup,
    absent: EpisodeSet | None = None,
) -> list[Result]:
    """Evaluate one candidate on the episodes, at every threshold where that has a meaning.

    Where several supports vote, their mean log-odds decide in the same pass, too: a second result.

    Args:
        config: the constants.
        source: of the episodes that calibrate thresholds for several supports.
        candidate: the network.
        part: the episodes.
        shots: their number of supports.
        setup: how to compute.
        absent: the same supports with queries that do not show the class.
    """
    means = candidate.rule == VOTE and shots > 1
    found = _evaluate(config, candidate, part, f"{shots}-shot", setup, means)
    without = absent and _evaluate(config, candidate, absent, f"{shots}-shot, absent", setup, means)
    specs = {i: part.dataset.plan(i) for i in part.ids}
    if not means:
        return [Result(candidate, shots, found, specs, without)]
    voting, averaging = _calibrated(config, source, candidate, shots, setup)
    assert found.of_means is not None
    return [
        Result(voting, shots, found, specs, without),
        Result(averaging, shots, found.of_means, specs, without and without.of_means),
    ]


def _calibrated(
    config: Config, source: Source, candidate: Candidate, shots: int, setup: Setup
) -> list[Candidate]:
    """The candidate voting and averaging, each with its threshold for so many supports.

    That of one support, which its checkpoint has, suits neither: of several votes a part is enough,
    and a mean spreads less than each of what it is made of.
    """
    both = [candidate, candidate._replace(rule=MEAN)]
    if candidate.threshold is None:
        return both
    heldout = of_shots(build_heldout(config, source), shots)
    if not heldout.ids:
        return [one._replace(threshold=None) for one in both]
    found = _evaluate(config, candidate, heldout, f"{shots}-shot, calibration", setup, means=True)
    facts = {**candidate.facts, f"{shots}-shot calibrated on": heldout.source}
    return [
        one._replace(threshold=by_rule.best_threshold(), facts=facts)
        for one, by_rule in zip(both, (found, found.of_means), strict=True)
        if by_rule is not None
    ]


def _evaluate(
    config: Config,
    candidate: Candidate,
    part: EpisodeSet,
    words: str,
    setup: Setup,
    means: bool = False,
) -> Evaluation:
    batches = console.progress(
        evaluation_loader(candidate.model, part, config, setup),
        desc=f"{words}, {candidate.method.words}",
        unit="batch",
    )
    return evaluate(
        candidate.model,
        batches,
        part.ids,
        part.class_ids,
        setup=setup,
        thresholds=thresholds_to_try(config.test.threshold) if candidate.has_threshold else (0.5,),
        vote_share=config.test.vote_share,
        presence=config.test.absent,
        means=means,
    )


def write_episodes(config: Config, part: EpisodeSet, shots: int) -> Path:
    """Write the manifest of the test's episodes into the run's folder."""
    path = config.run_dir / f"episodes_{shots}shot.jsonl"
    write_manifest(path, [part.dataset.plan(i) for i in part.ids])
    return path
