"""Speed and memory of this program beside the definitional version in `tests/oracle.py`."""
