"""How many images a test encodes, by the memory for encoded images; no image is read.

    python -m benchmarks.encodings --config configs/isaid_resnet50.toml [--section.key VALUE ...]

Needs the data set's lists alone. A table: shots, GiB, images encoded.
"""

import sys
from collections.abc import Sequence

import torch

from mgcl.build import build_network, build_setup, evaluation_loader
from mgcl.datasets.sets import build_source, build_test

GIB = (0, 1, 2, 4, 6, 12)


def main(argv: Sequence[str]) -> None:
    """Print the table."""
    from mgcl.config import load, with_values

    config = load(argv, prog="python -m benchmarks.encodings")
    config = with_values(
        config, model={"weights": "none"}, masks={"generator": "none"}, data={"min_object": 0}
    )
    network = build_network(config).eval()
    source = build_source(config)
    print("shots  GiB  images encoded")
    for shots in config.test.shots:
        part = build_test(config, source, shots)
        for gib in GIB:
            changed = with_values(config, run={"features_gib": gib})
            setup = build_setup(changed, torch.device("cpu"))
            count = evaluation_loader(network, part, changed, setup).count()
            print(f"{shots:5}  {gib:3}  {count:6}  of {len(part.ids) * (shots + 1)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
