"""Make a benchmark's tree from what can be downloaded, or from one's own images."""
