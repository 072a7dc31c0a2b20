"""Segment by example: a class marked in a few images, found in others."""
