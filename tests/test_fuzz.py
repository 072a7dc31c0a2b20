"""Some hundred random inputs for every reader; `python -m tests.fuzz` goes on as long as asked."""

import pytest

from tests import fuzz


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_any_input_ends_in_something_valid_or_in_an_error_that_names_the_file(name, tmp_path):
    fuzz.run(fuzz.TARGETS[name], tmp_path, examples=fuzz.TARGETS[name].examples, number=0)
