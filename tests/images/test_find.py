"""A folder of arbitrary images."""

import numpy as np
import pytest
from PIL import Image

from mgcl.images.find import find_images

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_a_folder_is_searched_below_and_ambiguous_names_are_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("z.PNG", "a/b/x.tif"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert list(find_images(tmp_path)) == ["a/b/x", "z"]
    Image.fromarray(COLOURS).save(tmp_path / "z.jpg")
    with pytest.raises(ValueError, match="share one mask map"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="no images"):
        find_images(tmp_path / "nowhere")
