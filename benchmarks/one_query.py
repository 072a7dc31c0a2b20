"""Milliseconds from an image to its map, one at a time, with the support encoded before.

    python -m benchmarks.one_query [--backbone efficientnet_lite0] [--size 256] [--rounds 30]

Each network segments the query by a kept support (encode the query, compare), beside the same with
everything anew. Random weights; the lowest figure is what an idle machine would take.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.clock import alternate
from benchmarks.inputs import Inputs, episodes
from benchmarks.loading import cores
from mgcl.device import keep_freed_memory
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.matcher import Matcher
from mgcl.model.network import MGCL, SegmentationHead
from mgcl.model.pretrained import build_backbone
from mgcl.model.residual import ResidualMGCL


def networks(backbone: str) -> dict[str, FewShotNetwork]:
    """All heads on a backbone with random weights."""
    torch.manual_seed(0)
    plain = build_backbone(backbone, "none")
    found = {
        "matcher": Matcher(plain, turns=1),
        "mgcl": MGCL(plain, SegmentationHead()),
        "mgcl+matcher": ResidualMGCL(plain, SegmentationHead(), turns=1),
    }
    return {name: network.eval() for name, network in found.items()}


def candidates(network: FewShotNetwork, inputs: Inputs) -> dict[str, Callable[[], Tensor]]:
    """The query by a kept support, and everything anew; both give the same."""
    size = (inputs.query.shape[2], inputs.query.shape[3])

    @torch.inference_mode()
    def kept() -> Tensor:
        query = network.encode(inputs.query, inputs.query_map)
        return network.compare(query, [support], inputs.labels, inputs.query_map, size)

    @torch.inference_mode()
    def anew() -> Tensor:
        return network(*inputs.ours())

    with torch.inference_mode():
        support = network.encode(inputs.supports[:, 0], inputs.maps[:, 0])
    return {"kept": kept, "anew": anew}


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(argv)
    keep_freed_memory()
    inputs = episodes(1, 1, options.size)
    print(f"{options.backbone}, {options.size} px, {torch.get_num_threads()} of {cores()} cores\n")
    print("| | support kept, ms: median | lowest | CPU | anew: median | lowest | CPU |")
    print("|---|---|---|---|---|---|---|")
    for name, network in networks(options.backbone).items():
        times = alternate(candidates(network, inputs), options.rounds, seconds=0)
        figures = [1000 * x for t in times.values() for x in (t.median, t.low, t.cpu)]
        print(f"| {name} | " + " | ".join(f"{x:.1f}" for x in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
