"""Segment Anything's image encoder with the global attention taken a few rows at a time.

The library holds the whole attention matrix of a global layer (heads x 4096 x 4096 numbers, several
copies of it); here a strip of it is scored, normalised and used before the next, with the same
arithmetic, so that it stays in the cache of a CPU and needs little memory on a GPU.
"""

import torch
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    ImageEncoderViT,
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from torch import Tensor
from torch.nn import functional as F

_STRIP_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}  # scores held at a time: a cache, a GPU's spare


def encode(encoder: ImageEncoderViT, images: Tensor) -> Tensor:
    """(B, 3, S, S) preprocessed images -> (B, C, S/16, S/16) embeddings, as `encoder(images)`."""
    x = encoder.patch_embed(images)  # (B, h, w, C)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    for block in encoder.blocks:
        x = _block(block, x)
    return encoder.neck(x.permute(0, 3, 1, 2))  # (B, C, h, w)


def _block(block: Block, x: Tensor) -> Tensor:
    _, height, width, _ = x.shape
    attended = block.norm1(x)
    if block.window_size > 0:
        windows, padded = window_partition(attended, block.window_size)
        windows = _attention(block.attn, windows)
        attended = window_unpartition(windows, block.window_size, padded, (height, width))
    else:
        attended = _attention(block.attn, attended)
    x = x + attended
    return x + block.mlp(block.norm2(x))


def _attention(attention: Attention, x: Tensor) -> Tensor:
    """Self-attention with decomposed relative positions, (B, h, w, C) -> (B, h, w, C)."""
    B, h, w, C = x.shape
    heads = attention.num_heads
    qkv = attention.qkv(x).reshape(B, h * w, 3, heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, B * heads, h * w, -1).unbind(0)  # (B*heads, h*w, d) each
    bias_h, bias_w = _relative_positions(attention, q.reshape(B * heads, h, w, -1))
    scaled, out = q * attention.scale, torch.empty_like(q)
    rows = _rows_at_a_time(B * heads * w * h * w * q.element_size(), q.device)
    for top in range(0, h, rows):
        strip = slice(top * w, min(top + rows, h) * w)
        out[:, strip] = _attend(
            scaled[:, strip], k, v, bias_h[:, top : top + rows], bias_w[:, top : top + rows]
        )
    out = out.view(B, heads, h, w, -1).permute(0, 2, 3, 1, 4).reshape(B, h, w, C)
    return attention.proj(out)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """Rows of scaled queries (N, r*w, d), k and v (N, h*w, d), biases (N, r, w, h|w)."""
    if q.dtype != torch.float32:  # a fused kernel; its sums round otherwise
        bias = (bias_h[..., :, None] + bias_w[..., None, :]).flatten(3).flatten(1, 2)
        q, k, v, bias = (tensor[None] for tensor in (q, k, v, bias.to(q.dtype)))  # wants 4 dims
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)[0]
    scores = q @ k.transpose(1, 2)  # (N, r*w, h*w)
    parts = scores.view(*bias_h.shape, bias_w.shape[-1])  # (N, r, w, h, w)
    parts += bias_h[..., :, None]
    parts += bias_w[..., None, :]
    return scores.softmax(dim=-1) @ v


def _relative_positions(attention: Attention, q: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (N, h, w, d) -> what each adds to the scores of a key's row and column."""
    _, h, w, _ = q.shape
    if not attention.use_rel_pos:
        return q.new_zeros(*q.shape[:3], h), q.new_zeros(*q.shape[:3], w)
    table_h = get_rel_pos(h, h, attention.rel_pos_h).to(q.dtype)  # (h, h, d)
    table_w = get_rel_pos(w, w, attention.rel_pos_w).to(q.dtype)
    bias_h = torch.einsum("nhwd,hkd->nhwk", q, table_h)
    bias_w = torch.einsum("nhwd,wkd->nhwk", q, table_w)
    return bias_h, bias_w


def _rows_at_a_time(bytes_of_a_row: int, device: torch.device) -> int:
    return max(1, _STRIP_BYTES.get(device.type, 1 << 28) // bytes_of_a_row)
