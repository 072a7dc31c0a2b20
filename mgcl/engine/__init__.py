"""One batch, one epoch, one evaluation, in memory."""
