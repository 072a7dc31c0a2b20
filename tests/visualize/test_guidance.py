"""Features and correlations before and after mask guidance: what the picture rests on."""

import numpy as np
import pytest
import torch
from PIL import Image

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.model.mgfe import mask_mean
from mgcl.visualize.command import main
from mgcl.visualize.guidance import auc, level_tiles, look
from tests.model.test_network import episode, tiny_networks
from tests.small_run import Pipeline, words

SETUP = Setup(torch.device("cpu"))


def batch(shots: int) -> Episode:
    query, query_map, supports, labels, maps = episode(shots, batch=1)
    ids = torch.tensor([0])
    return Episode(query, labels[:, 0], query_map, supports, labels, maps, ids, ids)


def test_the_correlation_is_the_mean_cosine_with_the_supports_foreground():
    model, given = tiny_networks()[0], batch(2)
    given.support_labels[:] = 0
    given.support_labels[:, :, :32] = 1  # rows 0..31 of 64: rows 0..3 of the 8 of stride 8
    level = look(model, given, SETUP)[0]
    with torch.no_grad():
        images = torch.cat([given.query_image, given.support_images[0]])
        plain = model.backbone(images)[0]
    maps = torch.cat([given.query_mask_map, given.support_mask_maps[0]])
    guided = torch.cat([plain, mask_mean(plain, maps)], dim=1)
    assert level.stride == 8
    for features, got in zip((plain, guided), level.correlation, strict=True):
        unit = torch.nn.functional.normalize(features, dim=1)
        query, support = unit[0].flatten(1), unit[1:, :, :4].movedim(1, 0).flatten(1)
        expected = (query.T @ support).relu().mean(dim=1)
        np.testing.assert_allclose(got, expected.unflatten(0, (8, 8)), atol=1e-4)


def test_without_masks_guidance_halves_the_features_and_leaves_the_correlation():
    given = batch(1)
    bare = given._replace(
        query_mask_map=given.query_mask_map * 0, support_mask_maps=given.support_mask_maps * 0
    )
    for level in look(tiny_networks()[0], bare, SETUP):
        np.testing.assert_allclose(*level.correlation, atol=1e-5)


def test_masks_of_one_colour_flatten_the_features():
    given = batch(1)
    whole = given._replace(query_mask_map=torch.ones_like(given.query_mask_map))
    level = look(tiny_networks()[0], whole, SETUP)[0]
    assert level.query.after.std(axis=(0, 1)).max() < level.query.before.std(axis=(0, 1)).max()
    assert level.query.before.min() >= 0 and level.query.before.max() <= 1


def test_auc_is_the_chance_to_be_larger():
    label = np.repeat(np.array([[1, 0]], np.uint8), 2, axis=0)
    assert auc(np.array([[0.9, 0.1]] * 2), label) == 1
    assert auc(np.array([[0.1, 0.9]] * 2), label) == 0
    assert auc(np.array([[0.5, 0.5]] * 2), label) == 0.5
    assert auc(np.array([[0.9]]), np.array([[1, 0], [0, 255]])) == 0.5
    assert np.isnan(auc(np.ones((2, 2)), np.ones((4, 4), int)))


@pytest.mark.parametrize("shots", [1, 5])
def test_a_level_is_six_tiles(shots):
    levels = look(tiny_networks()[0], batch(shots), SETUP)
    assert [level.stride for level in levels] == [8, 16, 32]
    for level in levels:
        tiles = level_tiles(level, torch.zeros(64, 64))
        assert [tile.image.shape for tile in tiles] == [(256, 256, 3)] * 6


def test_the_command_draws_any_episode_of_the_test_list(pipeline: Pipeline, tmp_path, capsys):
    line = words(pipeline.root, pipeline.masks, pipeline.folder)
    path = tmp_path / "figure.png"
    how = ["--episode", "0", "--shots", "2", "--to", str(path)]
    assert main([*how, *line]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert Image.open(path).size == (10 + 6 * 266, 38 + 4 * 290)
    manifest = pipeline.folder / "episodes_1shot.jsonl"
    how = ["--episode", "1", "--test.episodes", str(manifest), "--to", str(path)]
    assert main([*how, *line]) == 0
    assert main(["--episode", "100000", *line]) == 2
    assert "there are the episodes 0 to" in capsys.readouterr().err
    assert main(["--episode", "0", "--shots", "0", *line]) == 2
    assert "--shots 0: a number of supports, from 1" in capsys.readouterr().err
    assert main(["--episode", "0", "--checkpoint", "no.pt", *line]) == 1
