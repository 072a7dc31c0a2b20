"""A training on disk: its folder, log, checkpoints, and where it stands."""
