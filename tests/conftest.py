"""The small synthetic benchmarks that the tests share; treat them as read-only."""

from pathlib import Path

import pytest
from hypothesis import settings

from mgcl.datasets.synthetic.command import write_synthetic
from tests.small_run import Pipeline, run_pipeline

settings.register_profile("shared_machine", deadline=None)  # times say nothing on a busy one
settings.load_profile("shared_machine")


@pytest.fixture(scope="session")
def isaid_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """iSAID's tree with 60 training and 90 validation scenes of 64 px, lists under splits/."""
    root = tmp_path_factory.mktemp("isaid")
    return write_synthetic(root, train_images=60, val_images=90, size=64, processes=1)


@pytest.fixture(scope="session")
def dlrsd_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DLRSD's tree with 90 scenes of 64 px, which training and validation share."""
    root = tmp_path_factory.mktemp("dlrsd")
    return write_synthetic(
        root, train_images=60, val_images=30, size=64, processes=1, benchmark="dlrsd"
    )


@pytest.fixture(scope="session")
def pipeline(isaid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The three scripts, run once as a user runs them, on a tiny experiment."""
    return run_pipeline(isaid_root, tmp_path_factory.mktemp("pipeline") / "small")
