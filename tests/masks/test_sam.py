"""Segment Anything: the library's masks, bit for bit in float32 on the CPU."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from mgcl.config import MasksSection
from mgcl.images.find import find_images
from mgcl.masks import sam_decoder
from mgcl.masks.extract import extract
from mgcl.masks.generator import build_generator
from mgcl.masks.mask_map import merge_masks
from mgcl.masks.sam import SamMaskGenerator, SamSettings, _images_at_a_time, _prompts_at_a_time
from mgcl.masks.sam_encoder import encode
from mgcl.masks.store import MaskStore

SIZE = 128  # of the encoder's input; the published models have 1024


def tiny_sam() -> Sam:
    """Segment Anything with few, narrow blocks and random weights that make varied masks."""
    torch.manual_seed(7)
    encoder = ImageEncoderViT(
        img_size=SIZE,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=32,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=7,
        global_attn_indexes=(1,),
    )
    grid = (SIZE // 16, SIZE // 16)
    prompts = PromptEncoder(32, grid, (SIZE, SIZE), mask_in_chans=4)
    transformer = TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=4)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer)
    sam = Sam(encoder, prompts, decoder).eval()
    with torch.no_grad():
        for parameter in sam.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
            elif not parameter.any():
                parameter.normal_(std=0.2)
        for name, parameter in encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.3)
        for tokens in (decoder.iou_token, decoder.mask_tokens):
            tokens.weight.mul_(0.1)  # so that the point's own token counts
        for layer in transformer.layers:
            for attention in (layer.self_attn, layer.cross_attn_token_to_image):
                attention.v_proj.weight.mul_(2)
                attention.q_proj.weight.mul_(2)
    sam.mask_threshold = 2.7  # smaller masks than at 0
    return sam


@pytest.fixture(scope="module")
def sam() -> Sam:
    return tiny_sam()


def scene(height: int, width: int, seed: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(
        cv2.GaussianBlur(noise, (0, 0), height / 24), None, 0, 255, cv2.NORM_MINMAX
    )


def library_masks(sam: Sam, settings: SamSettings, image: np.ndarray) -> np.ndarray:
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        stability_score_offset=settings.stability_score_offset,
        box_nms_thresh=settings.box_nms_thresh,
    )
    records = generator.generate(image)
    masks = [record["segmentation"] for record in records]
    return np.array(masks, dtype=bool).reshape(-1, *image.shape[:2])


def settings_for(masks: str) -> SamSettings:
    """Settings under which an image of `scene` has that many masks."""
    thresholds = {"none": 1e9, "tens": 0.5, "over 128": -1.0}
    suppression = {"none": 0.7, "tens": 0.997, "over 128": 1.0}
    stability = {"none": 0.5, "tens": 0.5, "over 128": 0.2}
    return SamSettings(12, thresholds[masks], stability[masks], 0.1, suppression[masks])


def differing(a: np.ndarray, b: np.ndarray) -> float:
    return float((a != b).mean())


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (90, 41), (300, 256)])
@pytest.mark.parametrize("masks", ["none", "tens", "over 128"])
def test_the_map_equals_the_librarys_bit_for_bit(sam, size, masks):
    image, settings = scene(*size), settings_for(masks)
    expected = library_masks(sam, settings, image)
    low, high = {"none": (0, 0), "tens": (5, 128), "over 128": (129, 768)}[masks]
    assert low <= len(expected) <= high
    if masks == "over 128":
        areas = expected.sum(axis=(1, 2))
        assert len(np.unique(areas)) < len(areas)  # ties
    generator = SamMaskGenerator(sam, settings, prompt_batch=64, image_batch=1)
    np.testing.assert_array_equal(generator(image), merge_masks(expected))


def test_the_filters_of_quality_stability_and_overlap_each_drop_masks(sam):
    image = scene(64, 64)
    quality, stability, overlap = 4.5, 0.5, 0.97
    all_on = merge_masks(
        library_masks(sam, SamSettings(12, quality, stability, 0.1, overlap), image)
    )
    for weaker in [(0.0, stability, overlap), (quality, 0.0, overlap), (quality, stability, 1.0)]:
        settings = SamSettings(12, weaker[0], weaker[1], 0.1, weaker[2])
        masks = library_masks(sam, settings, image)
        assert not np.array_equal(merge_masks(masks), all_on)
        generator = SamMaskGenerator(sam, settings, prompt_batch=64)
        np.testing.assert_array_equal(generator(image), merge_masks(masks))


@pytest.mark.parametrize("prompt_batch", [5, 256])
@pytest.mark.parametrize("masks", ["tens", "over 128"])
def test_other_batches_change_at_most_one_pixel_in_ten_thousand(sam, prompt_batch, masks):
    images = [scene(128, 128, seed) for seed in range(3)]
    expected = SamMaskGenerator(sam, settings_for(masks), prompt_batch=64, image_batch=1)
    generator = SamMaskGenerator(sam, settings_for(masks), prompt_batch=prompt_batch, image_batch=3)
    for image, mask_map in zip(images, generator.many(images), strict=True):
        assert differing(mask_map, expected(image)) <= 1e-4


def test_a_short_batch_gives_the_maps_of_a_full_one(sam):
    images = [scene(64, 64, 0), scene(50, 70, 1), scene(64, 64, 2)]
    generator = SamMaskGenerator(sam, settings_for("tens"), image_batch=3)
    full = generator.many(images)
    for image, mask_map in zip(images, full, strict=True):
        (alone,) = generator.many([image])
        assert alone.shape == image.shape[:2]
        np.testing.assert_array_equal(alone, mask_map)


def test_two_shards_of_batches_give_the_bytes_of_one_run(sam, tmp_path):
    for i in range(5):
        Image.fromarray(scene(64, 64 + 2 * i, i)).save(tmp_path / f"{i}.png")
    images = find_images(tmp_path)
    files = {}
    for shards in (1, 2):
        root = tmp_path / f"maps{shards}"
        for i in range(shards):
            generator = SamMaskGenerator(sam, settings_for("tens"), image_batch=2)
            store = MaskStore(root, generator.spec)
            extract(images, generator, store, shard=(i, shards), quiet=True)
        files[shards] = {path.name: path.read_bytes() for path in root.iterdir()}
    assert len(files[1]) == 6 and files[1] == files[2]


def test_bf16_keeps_most_of_the_map(sam):
    image = scene(128, 128)
    # masks of random weights hang on a thread (their logits cross the threshold at a slant), and
    # one mask more or less renumbers the rest: coverage is compared, not the numbers
    exact = SamMaskGenerator(sam, settings_for("over 128"))(image)
    low = SamMaskGenerator(sam, settings_for("over 128"), precision="bf16")(image)
    assert exact.any() and differing(low > 0, exact > 0) <= 0.05


def test_the_encoder_with_strips_equals_the_librarys(sam):
    torch.manual_seed(0)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = sam.image_encoder(images)
        assert torch.equal(encode(sam.image_encoder, images), expected)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = encode(sam.image_encoder, images).float()
    assert (low - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_the_encoder_compiles_into_one_graph_with_the_same_arithmetic(sam):
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(encode, backend="eager", fullgraph=True)
    with torch.inference_mode():
        assert torch.equal(compiled(sam.image_encoder, images), encode(sam.image_encoder, images))


def test_a_full_gpu_is_told_with_the_batches_to_lower(sam, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")

    monkeypatch.setattr(sam_decoder, "predict", full)
    generator = SamMaskGenerator(sam, settings_for("tens"), prompt_batch=64, image_batch=2)
    with pytest.raises(MemoryError, match=r"image_batch 2 .*prompt_batch 64.*Tried to allocate"):
        generator.many([scene(64, 64)])


@pytest.mark.parametrize("free, images, prompts", [(80, 8, 204), (16, 2, 64), (0.5, 1, 64)])
def test_batches_follow_the_free_memory_of_a_gpu(monkeypatch, free, images, prompts):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 2**30), 2**37))
    device = torch.device("cuda")
    assert (_images_at_a_time(device), _prompts_at_a_time(device)) == (images, prompts)
    assert (_images_at_a_time(torch.device("cpu")), _prompts_at_a_time(torch.device("cpu"))) == (
        1,
        4,
    )


def test_own_options_and_weights_are_in_the_spec_and_batches_are_not(sam):
    one = SamMaskGenerator(sam, spec={"model": "vit_b"}, prompt_batch=8).spec
    two = SamMaskGenerator(sam, spec={"model": "vit_b"}, prompt_batch=64, image_batch=4).spec
    other = SamMaskGenerator(sam, SamSettings(pred_iou_thresh=0.5), spec={"model": "vit_b"}).spec
    assert one == two != other
    assert one["points_per_side"] == 32 and one["stability_score_thresh"] == 0.5


@pytest.mark.parametrize("model", ["vit_h", "vit_l", "vit_b"])
def test_missing_weights_are_named_with_their_address_and_size(model, tmp_path):
    section = MasksSection(sam_model=model, sam_checkpoint=tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"none\.pth.*https://dl\.fbaipublicfiles\.com.*[GM]B"):
        build_generator(section)
    with pytest.raises(ValueError, match=rf"weights/sam_{model}_\w+\.pth"):
        build_generator(MasksSection(sam_model=model))


def test_torn_and_foreign_weights_are_told_apart(tmp_path):
    torn, foreign = tmp_path / "torn.pth", tmp_path / "foreign.pth"
    torn.write_bytes(b"half a file")
    torch.save({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match="download it again"):
        build_generator(MasksSection(sam_model="vit_b", sam_checkpoint=torn))
    with pytest.raises(ValueError, match="does not hold the weights of vit_b"):
        build_generator(MasksSection(sam_model="vit_b", sam_checkpoint=foreign))
