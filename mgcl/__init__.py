"""Mask-guided correlation learning (MGCL) for few-shot segmentation of remote-sensing imagery."""

__version__ = "0.1.0"
