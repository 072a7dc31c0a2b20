r"""Segment by example on the command line: classes marked in a few images, found in others.

    python -m mgcl.predict --support image.tif label.png --query scene.tif --to out/

finds with the matcher, which needs no training; `--checkpoint runs/demo/best.pt` takes a trained
network. Written are, of each query, a class map (masks/, GeoTIFF in the scene's place), objects
(objects/, GeoPackage or GeoJSON) and a picture (overlays/); overview.png shows all, predict.json
says what made them. Images may have any size. Exit status: 0 all is done, 1 some queries could not
be read or written (they are named), 2 a mistake in what is asked for.
"""

import argparse
import hashlib
import itertools
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgcl import console, distributed, old_names
from mgcl.files import DiskFullError
from mgcl.predict.defaults import KEEP_PRESENT
from mgcl.predict.load import load_network
from mgcl.predict.options import GENERATORS, OVERLAP, SPECK, check_windows, parser

if TYPE_CHECKING:
    from mgcl.predict.pool import Taken
    from mgcl.predict.results import Results
    from mgcl.predict.scene import Style
    from mgcl.predict.showing import Shown
    from mgcl.predict.supports import Supports


def main(argv: Sequence[str] | None = None) -> int:
    """Segment what the command line names; returns the exit status."""
    argv = old_names.in_words(sys.argv[1:] if argv is None else argv, old_names.OPTIONS)
    words = parser(__doc__).parse_args(argv)
    console.set_quiet(words.quiet)
    console.say("loading the network")
    try:
        return _segment(words)
    except DiskFullError as error:
        console.fail(error)
        return console.WRONG
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.USAGE


def _segment(words: argparse.Namespace) -> int:
    from mgcl.predict.finder import Finder
    from mgcl.predict.inputs import StoredMaps, find_queries
    from mgcl.predict.maps import colour_of
    from mgcl.predict.pool import Look, choose, said
    from mgcl.predict.results import Results
    from mgcl.predict.run import Run
    from mgcl.predict.scale import Scale
    from mgcl.predict.scene import Style
    from mgcl.predict.showing import Cutter
    from mgcl.predict.survey import survey

    supports = _supports(words)
    read = supports.files()
    if missing := next((path for path in read if not path.exists()), None):
        raise FileNotFoundError(f"no such file: {missing.absolute()}")
    labels = [given.label for given in supports.all_given() if given.label]
    results = Results(words.to)
    queries = find_queries(words.query, results=words.to, labels=labels)
    results.refuse_overwriting(queries, [*queries.values(), *read])
    maps = None if words.masks in GENERATORS else StoredMaps(Path(words.masks))
    loaded = load_network(
        words.checkpoint,
        config=words.config,
        masks="none" if maps else words.masks,
        threshold=words.threshold,
        turns=words.turns,
        device=words.device,
    )
    finder = Finder(
        loaded.model,
        loaded.mask_generator,
        image_size=loaded.image_size,
        setup=loaded.setup,
        overlap=words.overlap,
        batch_size=loaded.batch_size,
    )
    words.window = words.window or loaded.window
    scale = Scale(words.window, words.window_metres, console.say)
    cutter = Cutter(
        scale.support,
        loaded.mask_generator,
        maps=maps,
        bands=words.bands,
        max_windows=words.max_windows,
        negatives=loaded.model.pools,
    )
    shown = cutter.show(supports)
    finder.learn(shown.examples)
    for line in shown.said:
        console.say(line)
    style = Style(
        finder.names,
        supports.colours(finder.names) or [colour_of(1)],
        probabilities=words.probabilities,
        objects=words.objects,
        smooth=words.smooth,
        min_area=words.min_area or 0.0,
        min_score=words.min_score,
        vote_share=loaded.vote_share,
        thresholds=supports.thresholds(finder.names, loaded.threshold),
        speck=SPECK / loaded.image_size if words.min_area is None else 0.0,
    )
    facts = _facts(words, supports, shown, loaded, style)
    share = words.shard or (distributed.rank(), distributed.world_size())
    taken: dict[str, list[Taken]] = {}
    if words.pool:
        with console.progress(desc="a first look", unit="window") as bar:
            look = Look(
                finder,
                scale.query,
                style.thresholds,
                known=[given.image for given in supports.all_given()],
                bands=words.bands,
                maps=maps,
                on_windows=bar.update,
            )
            apart = words.shard is not None
            taken, deleted = choose(results, facts, queries, look, share, apart=apart)
        finder.learn(shown.examples, {n: [t.example for t in of] for n, of in taken.items()})
        for line in said(taken):
            console.say(line)
    else:
        deleted = results.begin(facts)
    if deleted:
        queries_of = "1 query" if deleted == 1 else f"{deleted} queries"
        console.say(f"{words.to}: the results of {queries_of} were made otherwise: deleted")
    ahead = survey(queries, finder, results, scale)
    console.say(ahead.sentence(len(queries)))
    total, initial = (-(-count // share[1]) for count in (ahead.windows, ahead.done))
    with console.progress(total=total, initial=initial, unit="window") as bar:
        run = Run(
            finder,
            results,
            style,
            window=scale.query,
            keep_present=words.keep_present if words.keep_present < 1 else None,
            bands=words.bands,
            maps=maps,
            share=share,
            on_windows=bar.update,
        )
        outcome = run.all(queries)
    failed = set(itertools.chain(*distributed.gather(outcome.failed)))
    if distributed.is_main():
        _close(results, shown, taken, style, words, queries, failed)
    distributed.gather(None)  # torchrun ends all as soon as one ends with another status than 0
    return console.WRONG if failed else console.DONE


def _close(
    results: "Results",
    shown: "Shown",
    taken: "dict[str, list[Taken]]",
    style: "Style",
    words: argparse.Namespace,
    queries: Collection[str],
    failed: Collection[str],
) -> None:
    """The picture of all that lies in the folder, and the words of this run's queries."""
    from mgcl.images.read import read_image
    from mgcl.images.write import write_png
    from mgcl.predict.layers import write_coco
    from mgcl.predict.results import COCO, OVERVIEW
    from mgcl.predict.summary import SHOWN, overview, totals

    records = results.records()
    found = totals(list(records.values()), style.names)
    mine = [record for name, record in records.items() if name in set(queries) - set(failed)]
    tiles = {name: read_image(results.tile(name)) for name in list(records)[:SHOWN]}
    title = f"{words.checkpoint or 'matcher'}: {len(records)} image{'s' * (len(records) != 1)}"
    if tiles:
        pool = {name: [t.example for t in of] for name, of in taken.items()}
        picture = overview(shown.examples, pool, tiles, found, style.colours, title)
        write_png(words.to / OVERVIEW, picture)
    plain = {
        record["image"]: (words.to / record["files"]["objects"], tuple(record["size"]))
        for record in records.values()
        if not record["placed"] and record["files"].get("objects", "").endswith(".geojson")
    }
    if plain:
        write_coco(words.to / COCO, plain, style.names)
    results.close()
    if len(mine) > 1 or len(style.names) > 1:
        for name, amounts in totals(mine, style.names).items():
            console.say(f"{name}: {amounts}")
    waiting = len(queries) - len(failed) - len(mine)
    if waiting > 0:
        who = "1 image waits" if waiting == 1 else f"{waiting} images wait"
        console.say(f"{who} for bands of other processes")
    console.say(f"{len(mine)} of {len(queries)} images segmented: {words.to}")


def _supports(words: argparse.Namespace) -> "Supports":
    from mgcl.predict.supports import of_pairs, read_supports

    if (words.support is None) == (words.supports is None):
        raise ValueError("give either --support IMAGE LABEL ... or --supports FOLDER or FILE.toml")
    if words.supports is None:
        supports = of_pairs(_pairs(words.support), label_id=words.label_id, field=words.field)
    else:
        if words.to.resolve().is_relative_to(words.supports.resolve()):
            raise ValueError(f"--to {words.to} lies in the supports' folder: give another one")
        supports = read_supports(words.supports)
    constants = supports.constants
    for name, value in constants.items():
        if name not in _CONSTANTS:
            raise ValueError(
                f"{words.supports}: constants.{name}: there are {', '.join(_CONSTANTS)}"
            )
        if getattr(words, name) is None:
            setattr(words, name, value)
    words.overlap = OVERLAP if words.overlap is None else words.overlap
    words.masks = words.masks or ""
    if words.keep_present is None:
        words.keep_present = KEEP_PRESENT
    if not 0 < words.keep_present <= 1:
        raise ValueError(f"--keep-present {words.keep_present}: a share of images, over 0 to 1")
    if words.pool and words.keep_present == 1:
        raise ValueError("--pool decides with presence, which --keep-present 1 leaves out")
    check_windows(words.window, words.overlap)
    return supports


_CONSTANTS = ("window", "window_metres", "overlap", "threshold", "keep_present", "masks")


def _pairs(words: Sequence[Path]) -> list[tuple[Path, Path]]:
    if len(words) % 2:
        raise ValueError(f"--support: {len(words)} files, need pairs IMAGE LABEL [IMAGE LABEL ...]")
    return list(zip(words[::2], words[1::2], strict=True))


def _facts(
    words: argparse.Namespace, supports: "Supports", shown: "Shown", loaded: Any, style: "Style"
) -> dict[str, Any]:
    """What makes the results; the queries are not among it."""
    pixels = hashlib.sha256()
    for name, examples in shown.examples.items():
        pixels.update(name.encode())
        for example in examples:
            for array in example:
                pixels.update(array.tobytes())
    generator = loaded.mask_generator
    return {
        "checkpoint": str(words.checkpoint) if words.checkpoint else "matcher",
        "weights": loaded.digest(),
        "supports": [
            [str(path) for path in (given.image, given.label) if path]
            for given in supports.all_given()
        ],
        "support_pixels": pixels.hexdigest(),
        "label_id": words.label_id,
        "classes": style.names,
        "colours": style.colours,
        "threshold": loaded.threshold,
        "thresholds": style.thresholds,
        "vote_share": loaded.vote_share,
        "turns": words.turns,
        "keep_present": words.keep_present,
        "pool": None,
        "window": words.window,
        "window_metres": words.window_metres,
        "bands": words.bands,
        "image_size": loaded.image_size,
        "overlap": words.overlap,
        "masks": generator.spec if generator else words.masks or "none",
        "probabilities": words.probabilities,
        "objects": words.objects,
        "smooth": words.smooth,
        "min_area": words.min_area,
        "min_score": words.min_score,
    }
