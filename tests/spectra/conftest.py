"""Hypothesis keeps its files out of the tree: a folder of them would be taken for tests."""

import tempfile
from pathlib import Path

from hypothesis import configuration

configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "fadiag-hypothesis")
