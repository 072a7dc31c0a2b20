"""Procedural aerial scenes in the tree of a real benchmark, for the demo and the tests."""
