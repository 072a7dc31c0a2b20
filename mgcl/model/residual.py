"""MGCL on top of the matcher: what the head adds to the matcher's log-odds.

The head's last convolution starts at zero, so that the network begins as the matcher and leaves it
only for what lowers the loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mgcl.model.backbone import Backbone
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.matcher import TURNS, Matcher
from mgcl.model.network import MGCL, SegmentationHead
from mgcl.model.presence import Presence


class ResidualMGCL(FewShotNetwork):
    """The matcher's log-odds, plus the mean of the head's over the supports that show the class."""

    pools = True

    def __init__(self, backbone: Backbone, head: SegmentationHead, *, turns: int = TURNS) -> None:
        """`head` as for MGCL, its last convolution is set to zero; `turns` as the matcher's."""
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.matcher = Matcher(backbone, turns=turns).requires_grad_(False)
        self.mgcl = MGCL(backbone, head)
        *_, last = (layer for layer in head.mgcd.decoder2 if isinstance(layer, nn.Conv2d))
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def train(self, mode: bool = True) -> "ResidualMGCL":
        """As nn.Module's, but matcher and backbone stay in eval mode."""
        super().train(mode)
        self.matcher.eval()
        return self

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """The levels of the matcher, then those of MGCL; the backbone runs once a turn."""
        with torch.no_grad():
            taps = self.backbone.taps(images)
            matched = self.matcher.describe(self.matcher.averaged(images, taps))
        return Encoded((*matched, *taps[::2]), mask_maps)

    def encoders(self) -> Sequence[nn.Module]:
        """The matcher's."""
        return self.matcher.encoders()

    def fingerprint(self) -> str:
        """The matcher's, under a name of its own: MGCL's levels come on top."""
        return f"residual {self.matcher.fingerprint()}"

    def contains(self) -> Mapping[str, slice]:
        """The matcher's levels come first, then MGCL's."""
        count = len(self.matcher.metrics)
        parts = {self.matcher: slice(count), self.mgcl: slice(count, None)}
        return {network.fingerprint(): which for network, which in parts.items()}

    def tells(self) -> Presence | None:
        """The matcher's."""
        return self.matcher.tells()

    def compare(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
        *,
        matched: Tensor | None = None,
    ) -> Tensor:
        """One answer of all supports: -> (B, 1, 2, *size) logits.

        A support whose label has no foreground speaks to the matcher alone. `matched`: what `match`
        gave for the rest, if it was asked before.
        """
        if matched is None:
            matched = self.match(query, supports, support_labels, query_mask_map, size)
        count = len(self.matcher.metrics)
        query, *supports = (x.only(slice(count, None)) for x in (query, *supports))
        found = self.mgcl.compare(query, supports, support_labels, query_mask_map, size)
        shows = (support_labels == 1).flatten(2).any(dim=2).to(found)  # (B, K)
        share = shows / shows.sum(dim=1, keepdim=True).clamp_min(1)
        return matched + torch.einsum("bk,bkchw->bchw", share, found)[:, None]

    def match(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """The matcher's part of `compare`, which no training changes."""
        count = len(self.matcher.metrics)
        query, *supports = (x.only(slice(count)) for x in (query, *supports))
        return self.matcher.compare(query, supports, support_labels, query_mask_map, size)
