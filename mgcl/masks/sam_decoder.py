"""Segment Anything's mask decoder for many point prompts of one image.

Two things are done that the library does not: what the image brings to the first layer (its keys,
values and queries) is the same for all prompts and computed once; and the quality of a prompt's
masks is known before they are drawn, so those that the filter drops are never drawn.
"""

import math
from typing import NamedTuple

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor


class ImageSide(NamedTuple):
    """What an image gives to every prompt; L = h * w places of the embedding."""

    keys: Tensor  # (1, L, C)
    position: Tensor  # (1, L, C)
    height: int
    width: int
    first_k: Tensor  # (1, heads, L, d): keys of the first layer's tokens-to-image attention
    first_v: Tensor  # (1, heads, L, d): its values
    first_q: Tensor  # (1, heads, L, d): queries of the first layer's image-to-tokens attention


class Prediction(NamedTuple):
    """Prompts decoded as far as their quality; `draw` makes the masks."""

    quality: Tensor  # (N, 3) predicted IoU
    tokens: Tensor  # (N, 4, C) of the masks
    keys: Tensor  # (N, L, C) image side after the last layer


def image_side(sam: Sam, embedding: Tensor) -> ImageSide:
    """(1, C, h, w) embedding of an image -> the part of the decoder that no prompt changes."""
    _, C, h, w = embedding.shape
    no_mask = sam.prompt_encoder.no_mask_embed.weight.view(1, C, 1, 1)
    keys = (embedding + no_mask).flatten(2).permute(0, 2, 1)  # (1, L, C)
    position = sam.prompt_encoder.get_dense_pe().flatten(2).permute(0, 2, 1)
    first = sam.mask_decoder.transformer.layers[0]
    to_image, to_tokens = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    placed = keys + position
    return ImageSide(
        keys,
        position,
        h,
        w,
        _heads(to_image, to_image.k_proj(placed)),
        _heads(to_image, to_image.v_proj(keys)),
        _heads(to_tokens, to_tokens.q_proj(placed)),
    )


def predict(sam: Sam, side: ImageSide, points: Tensor) -> Prediction:
    """One foreground point a prompt, (N, 2) x and y in the encoder's pixels."""
    decoder = sam.mask_decoder
    N = len(points)
    labels = torch.ones(N, 1, dtype=torch.int, device=points.device)
    prompts, _ = sam.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompts = torch.cat([output_tokens.expand(N, -1, -1), prompts], dim=1)  # (N, T, C)
    queries, keys = _two_way(sam, side, prompts)
    with torch.autocast(queries.device.type, enabled=False):  # thresholds want every digit
        quality = decoder.iou_prediction_head(queries[:, 0].float())
    return Prediction(quality[:, 1:], queries[:, 1 : 1 + decoder.num_mask_tokens], keys)


def draw(sam: Sam, side: ImageSide, prediction: Prediction, keep: Tensor) -> Tensor:
    """Mask logits (K, 4h, 4w) of those predictions that `keep` (N, 3) marks, in order."""
    decoder = sam.mask_decoder
    prompts = keep.any(dim=1)
    tokens, keys = prediction.tokens[prompts], prediction.keys[prompts]
    places = keys.transpose(1, 2).unflatten(2, (side.height, side.width))  # (n, C, h, w)
    upscaled = decoder.output_upscaling(places)  # (n, C/8, 4h, 4w)
    weights = torch.stack(
        [mlp(tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )  # (n, 4, C/8)
    masks = weights @ upscaled.flatten(2)  # (n, 4, 16*h*w)
    return masks[:, 1:][keep[prompts]].view(-1, *upscaled.shape[2:]).float()


def _two_way(sam: Sam, side: ImageSide, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts (N, T, C) and image attend to each other -> queries (N, T, C), keys (N, L, C)."""
    transformer = sam.mask_decoder.transformer
    queries, keys = _first_layer(transformer.layers[0], side, prompts)
    for layer in transformer.layers[1:]:
        queries = layer.norm1(queries + _attend_self(layer.self_attn, queries, prompts))
        placed = keys + side.position
        queries = _tokens_to_image(layer, queries, prompts, placed, keys)
        back = layer.cross_attn_image_to_token
        keys = layer.norm4(keys + back(q=placed, k=queries + prompts, v=queries))
    last = transformer.final_attn_token_to_image
    attended = last(q=queries + prompts, k=keys + side.position, v=keys)
    return transformer.norm_final_attn(queries + attended), keys


def _first_layer(
    layer: TwoWayAttentionBlock, side: ImageSide, prompts: Tensor
) -> tuple[Tensor, Tensor]:
    queries = layer.norm1(layer.self_attn(q=prompts, k=prompts, v=prompts))
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    q = _heads(to_image, to_image.q_proj(queries + prompts))  # (N, heads, T, d)
    queries = layer.norm2(queries + _attend(to_image, q, side.first_k, side.first_v))
    queries = layer.norm3(queries + layer.mlp(queries))
    k = _heads(to_tokens, to_tokens.k_proj(queries + prompts))
    v = _heads(to_tokens, to_tokens.v_proj(queries))
    return queries, layer.norm4(side.keys + _attend(to_tokens, side.first_q, k, v))


def _attend_self(attention: Attention, queries: Tensor, prompts: Tensor) -> Tensor:
    placed = queries + prompts
    return attention(q=placed, k=placed, v=queries)


def _tokens_to_image(
    layer: TwoWayAttentionBlock, queries: Tensor, prompts: Tensor, placed: Tensor, keys: Tensor
) -> Tensor:
    attended = layer.cross_attn_token_to_image(q=queries + prompts, k=placed, v=keys)
    queries = layer.norm2(queries + attended)
    return layer.norm3(queries + layer.mlp(queries))


def _heads(attention: Attention, x: Tensor) -> Tensor:
    """(B, n, C) -> (B, heads, n, C/heads)."""
    B, n, _ = x.shape
    return x.view(B, n, attention.num_heads, -1).transpose(1, 2)


def _attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Projected queries, keys and values (B or 1, heads, n, d) -> (B, n, C)."""
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    attended = scores.softmax(dim=-1) @ v  # (B, heads, n, d)
    return attention.out_proj(attended.transpose(1, 2).flatten(2))
