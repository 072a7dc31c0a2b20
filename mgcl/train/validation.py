"""The validation of an epoch: its threshold, its scores, its pictures, whether it is the best."""

from typing import Any

from mgcl import distributed
from mgcl.build import begin, evaluation_loader, fit_thresholds, thresholds_to_try
from mgcl.datasets.sets import EpisodeSet, benchmark, spread
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.model.matcher import Matcher
from mgcl.train.run import Run
from mgcl.visualize.episodes import draw_panels

PANEL_EPISODES = 4
PANEL_TIMES = 10  # that all are shown, at other times one: each takes a tenth of a megabyte


def prepare(run: Run, heldout: EpisodeSet) -> None:
    """Before the first step: what a matcher learns that no step changes."""
    if not run.state.step:
        begin(run.model, heldout, run.config, run.setup)


def validate(run: Run, heldout: EpisodeSet, validation: EpisodeSet) -> None:
    """Calibrate the threshold on `heldout`, then score the epoch on `validation`.

    Raises:
        Interrupted: told to stop; the checkpoint is that of before the validation.
    """
    run.state.calibrated_on, run.state.chosen_on = heldout.source, validation.source
    if isinstance(run.model, Matcher):  # whose maps changed in training
        fit_thresholds(run.model, heldout, run.config, run.setup)
    calibration = _evaluated(run, heldout)
    scored = calibration if validation is heldout else _evaluated(run, validation)
    if run.model.learns_to_encode():
        run.setup.features.clear()  # of weights that will not come again
    run.state.threshold = calibration.best_threshold()
    _log(run, calibration, scored, run.state.threshold)
    chosen = scored.scores(run.threshold).miou
    if chosen > run.state.best_miou:
        run.state.best_miou, run.state.best_epoch = chosen, run.state.epoch
    if distributed.is_main():
        _draw(run, validation)


def _evaluated(run: Run, part: EpisodeSet) -> Evaluation:
    """Score a set of 1-shot episodes at every threshold."""
    return evaluate(
        run.model,
        run.signals.checked(evaluation_loader(run.model, part, run.config, run.setup)),
        part.ids,
        part.class_ids,
        setup=run.setup,
        thresholds=thresholds_to_try(run.config.test.threshold),
    )


def _log(run: Run, calibration: Evaluation, validation: Evaluation, threshold: float) -> None:
    """The scores at 0.5 and at the calibrated threshold."""
    half, tuned = validation.scores(0.5), validation.scores(threshold)
    held_half, held_tuned = calibration.scores(0.5), calibration.scores(threshold)
    values: dict[str, Any] = {
        "miou": half.miou,
        "fb_iou": half.fb_iou,
        "miou_calibrated": tuned.miou,
        "fb_iou_calibrated": tuned.fb_iou,
        "threshold": threshold,
        "heldout_miou": held_half.miou,
        "heldout_fb_iou": held_half.fb_iou,
        "heldout_miou_calibrated": held_tuned.miou,
        "heldout_fb_iou_calibrated": held_tuned.fb_iou,
    }
    curves = {f"validation/{name}": value for name, value in values.items()}
    names = benchmark(run.config).class_names
    for part, scores in ("class_iou", half), ("class_iou_calibrated", tuned):
        values[part] = {names[class_id]: iou for class_id, iou in scores.class_iou.items()}
        curves |= {f"{part}/{name}": iou for name, iou in values[part].items()}
    curves["speed/validation_episodes_per_second"] = validation.episodes_per_second
    run.log.scalars(curves, run.state.step)
    run.record("validation", **values)
    run.log.say(
        f"epoch {run.state.epoch + 1}: validation mIoU {half.miou:.2f} at 0.5, "
        f"{tuned.miou:.2f} at the calibrated threshold {threshold:.2f}"
    )


def _draw(run: Run, validation: EpisodeSet) -> None:
    """Pictures of fixed validation episodes: of one each time, of some ten times in the run."""
    finished, epochs = run.state.epoch + 1, run.config.train.epochs
    due = finished % max(1, epochs // PANEL_TIMES) == 0 or finished == epochs
    ids = [validation.ids[i] for i in spread(len(validation.ids), PANEL_EPISODES)]
    ids = ids if due else ids[:1]
    panels = draw_panels(
        run.model, validation.dataset, ids, setup=run.setup, threshold=run.threshold
    )
    for name, panel in panels:
        run.log.image(f"episodes/{name}", panel, run.state.step)
