"""Benchmarks, lists, images, episodes and batches: everything between the disk and the model."""
