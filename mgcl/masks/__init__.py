"""Over-segmentation of images into mask maps (section III-B of the paper).

A *mask map* is one uint8 image that holds all masks of an image: 0 where no mask lies, i where mask
i lies, masks numbered from 1 (largest) to at most 128 (smallest). Generators make them, `extract`
runs a generator over many images, `MaskStore` keeps them on disk.
"""
