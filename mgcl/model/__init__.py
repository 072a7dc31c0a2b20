"""The network, in the order of the paper: backbone, MGFE, FBC, MGCD."""
