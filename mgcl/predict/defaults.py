"""Numbers that the command line and what it runs share; light, so that `--help` is quick."""

KEEP_PRESENT = 0.7  # best for training classes where half of the images show the class
SMALLEST, LARGEST = 16, 16_384  # pixels that a window may span
