"""Draw episodes: `python -m mgcl.visualize`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mgcl import console
from mgcl.images.write import write_png

if TYPE_CHECKING:
    from mgcl.config import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one episode; exit status 0, 1 if something is missing, or 2 for a mistake."""
    words, constants = _parser().parse_known_args(sys.argv[1:] if argv is None else argv)
    from mgcl.checkpoint import CheckpointError
    from mgcl.config import load, with_values
    from mgcl.masks.store import MaskStoreError

    try:
        config = load(constants, prog=console.called("python -m mgcl.visualize"))
        console.set_quiet(config.run.quiet)
        drawn = _draw(with_values(config, test={"max_episodes": 0}), words)
    except (CheckpointError, MaskStoreError, OSError) as error:
        console.fail(error)
        return console.WRONG
    except ValueError as error:
        console.fail(error)
        return console.USAGE
    console.say(str(drawn))
    return 0


def _draw(config: "Config", words: argparse.Namespace) -> Path:
    """Write the picture; returns its path."""
    from mgcl.build import (
        build_setup,
        build_trained,
        fold_warning,
        resolve_threshold,
        with_network_of,
    )
    from mgcl.datasets.sets import build_source, build_test
    from mgcl.device import choose_device
    from mgcl.model.network import MGCL
    from mgcl.model.residual import ResidualMGCL
    from mgcl.visualize.episodes import draw_guidance

    if words.shots < 1:
        raise ValueError(f"--shots {words.shots}: a number of supports, from 1")
    device = choose_device(config.run.device)
    checkpoint = words.checkpoint or config.run_dir / "best.pt"
    config = with_network_of(config, checkpoint)
    model, _, facts = build_trained(config, checkpoint)
    if not isinstance(model, MGCL | ResidualMGCL):
        raise ValueError(f"{checkpoint} is no MGCL: mask guidance, which this draws, is MGCL's")
    if warning := fold_warning(facts, config, checkpoint):
        console.warn(warning)
    part = build_test(config, build_source(config), words.shots)
    if words.episode not in part.ids:
        raise ValueError(f"--episode {words.episode}: there are the episodes 0 to {part.ids[-1]}")
    panel = draw_guidance(
        model.to(device),
        part.dataset,
        words.episode,
        setup=build_setup(config, device),
        threshold=resolve_threshold(config.test.threshold, facts.get("threshold")),
        vote_share=config.test.vote_share,
    )
    path = words.to or config.run_dir / f"guidance_{words.shots}shot_{words.episode}.png"
    write_png(path, panel)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.visualize"),
        usage="%(prog)s --episode N [--shots K] [--checkpoint FILE] [--to FILE.png] "
        "[--config FILE] [--section.key VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config and --section.key are those of main_2_mgcl_test.py, which lists all.",
        allow_abbrev=False,
    )
    text = "number of the test episode, from 0: of the list, or of the manifest --test.episodes"
    parser.add_argument("--episode", type=int, required=True, metavar="N", help=text)
    text = "supports of the episode (%(default)s)"
    parser.add_argument("--shots", type=int, default=1, metavar="K", help=text)
    text = "weights to look at (left out: best.pt of the run)"
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "picture to write (left out: guidance_<K>shot_<N>.png in the run's folder)"
    parser.add_argument("--to", type=Path, metavar="FILE.png", help=text)
    return parser
