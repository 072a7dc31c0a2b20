import numpy as np
import pytest
from PIL import Image

from mgcl.images.write import write_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("level", (1, 6, 9))
@pytest.mark.parametrize("picture", [
    RNG.integers(0, 256, (40, 61, 3), dtype=np.uint8),
    RNG.integers(0, 16, (40, 61), dtype=np.uint8),
    RNG.integers(0, 65536, (7, 5), dtype=np.uint16),
    np.zeros((1, 1, 3), np.uint8),
])  # fmt: skip
def test_a_png_of_any_level_holds_the_picture_and_is_the_same_each_time(tmp_path, picture, level):
    for name in "ab":
        write_png(tmp_path / f"{name}.png", picture, level=level)
    with Image.open(tmp_path / "a.png") as found:
        assert (np.array(found) == picture).all()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("level", (1, 6))
def test_words_are_kept_at_every_level(tmp_path, level):
    picture = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture, level=level, texts={"key": "word"})
    with Image.open(tmp_path / "a.png") as found:
        assert found.info["key"] == "word" and (np.array(found) == picture).all()


def test_the_quick_level_drops_neither_transparency_nor_bits(tmp_path):
    picture = RNG.integers(0, 256, (4, 5, 4), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture, level=1)
    with Image.open(tmp_path / "a.png") as found:
        assert (np.array(found) == picture).all()
    with pytest.raises(TypeError, match="data type"):
        write_png(tmp_path / "a.png", picture.astype(np.uint16), level=1)
