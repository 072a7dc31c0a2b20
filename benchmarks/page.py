"""How fast the page answers: 200 images of 256 pixels by default, marks one after the other.

python -m benchmarks.page [IMAGES]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mgcl.datasets.synthetic.scenes import paint_scene
from mgcl.images.write import write_png
from mgcl.page.session import Session


def main() -> None:
    """Print the seconds, of the wall and of the processors, to the first and the last result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="?", default=200)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        root, labels = Path(folder) / "images", []
        for number in range(count):
            image, label = paint_scene(256, number % 15, 7, number % 60)
            write_png(root / f"{number:05d}.png", image, level=1)
            labels.append(label)
        session = Session(root, device="cpu")
        session.search.start()
        timed("encode all", session)
        session.project.add_class("ship")
        for mark in range(6):
            picture = session.pictures.all[15 * mark % (count // 15 * 15)]
            places = np.argwhere(labels[picture.number] == 1)
            y, x = places[len(places) // 2].tolist()
            session.click(picture, y, x, 2, session.value(1, mark in (2, 4)))
            timed(f"mark {mark + 1}", session)
        session.close()


def timed(name: str, session: Session) -> None:
    """Wait until everything is done, and say how long that took."""
    began, worked = time.monotonic(), time.process_time()
    session.search.wait(3600)
    status, wall = session.search.status(), time.monotonic() - began
    cpu = time.process_time() - worked
    print(f"{name:12} first {status.first:5.2f} s, all {wall:6.2f} s, CPU {cpu:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
