"""Step 0 (section III-B): cut every image into masks, one mask map an image.

    python main_0_extract_masks.py [--config FILE] [--section.key VALUE ...]
    torchrun --nproc_per_node N main_0_extract_masks.py ...      # one share of the images each

Run it again after any interruption: it makes what is missing. Exit status: 0 all maps are there,
1 images, lists or weights are missing or cannot be read, or disk or GPU are full, 2 a mistake in
the config, 130 stopped by Ctrl-C.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("main_0_extract_masks"))

from pathlib import Path
from typing import Any

from mgcl import config, distributed
from mgcl.datasets.lists import listed_images
from mgcl.device import choose_device, keep_freed_memory
from mgcl.files import DiskFullError
from mgcl.images.find import find_images
from mgcl.masks.extract import Summary, extract, together
from mgcl.masks.generator import build_generator
from mgcl.masks.store import MaskStore, is_store
from mgcl.workers import WorkerKilled


def main(argv: list[str]) -> int:
    """Cut what the config names and return the exit status."""
    constants = config.load_or_exit(argv, prog="python main_0_extract_masks.py")
    try:
        images = images_to_cut(constants)
        device: Any = "cpu"
        if constants.masks.generator != "superpixels":  # networks; PyTorch's import takes a second
            device = choose_device(constants.run.device)
        keep_freed_memory()
        generator = build_generator(constants.masks, device)
        store = MaskStore(constants.masks_dir, generator.spec)
        if distributed.is_main():
            console.say(
                f"{len(images)} images -> {store.root}, by {generator.spec['name']} on {device}"
            )
        made_here = extract(images, generator, store, shard=shard(constants.masks.shard))
    except KeyboardInterrupt:
        console.fail("stopped; run it again to make the rest")
        return console.INTERRUPTED
    except (
        ValueError,
        FileNotFoundError,
        MemoryError,
        DiskFullError,
        WorkerKilled,
    ) as error:  # memory: the GPU's
        console.fail(error)
        return console.WRONG
    except OSError as error:
        console.fail(f"{constants.masks_dir} cannot be written: {error}")
        return console.WRONG
    # torchrun ends all processes with the first that fails, so none does before all are through
    summary = together(distributed.gather(made_here))
    if distributed.is_main():
        console.say(tell(summary))
    return console.WRONG if summary.unreadable else console.DONE


def images_to_cut(constants: config.Config) -> dict[str, Path]:
    """File of each mask map's key: a folder of one's own, or all images that the lists name."""
    if constants.masks.images:
        return find_images(constants.masks.images, skip=is_store, tell=console.warn)
    from mgcl.datasets.benchmarks import find_benchmark  # the only heavy import

    benchmark = find_benchmark(constants.data.benchmark, constants.data.root)
    published = constants.data.lists == "published"
    return listed_images(benchmark, constants.data.root, constants.lists_dir, published=published)


def shard(machine: str) -> tuple[int, int]:
    """(i, n) of this process: "i/n" of its machine, divided among the processes of torchrun."""
    index, count = (int(part) for part in machine.split("/"))
    processes = distributed.world_size()
    return index * processes + distributed.rank(), count * processes


def tell(summary: Summary) -> str:
    """The run in words."""
    lines = [f"{summary.made} made, {summary.found} were there"]
    if summary.damaged:
        lines.append(f"{len(summary.damaged)} of those made replace damaged files (named above)")
    if summary.unreadable:
        lines.append(f"{len(summary.unreadable)} images could not be read and have no masks:")
        lines += [f"  {problem}" for problem in summary.unreadable.values()]
    return "\n".join(lines)
