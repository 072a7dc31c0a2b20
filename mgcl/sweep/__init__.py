"""All folds, several seeds and the ablations of an experiment, and the field's table of them."""
