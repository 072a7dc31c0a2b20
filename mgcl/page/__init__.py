"""A page on one's own machine: mark objects, find them everywhere, correct, export."""
