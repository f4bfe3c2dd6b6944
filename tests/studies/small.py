"""Studies small enough for a test: tiny networks, few images of digits, one epoch."""

import tempfile
from pathlib import Path

from fadiag.studies import Study, load_study

TEXT = """
name = "small"
question = "Is FA's rank lower?"
primary = { metric = "error_participation_ratio_centered", contrast = ["fa", "bp"], tail = "lower" }
metrics = ["error_cosine"]
figures.names = []
[base]
train = { epochs = 1, batch_size = 10, checkpoint_every = 2 }
data = { train_samples = 60, test_samples = 40 }
model.hidden = [8, 8]
optimizer.learning_rate = 0.02
[base.record]
every = 3
probe_samples = 12
signals = ["error", "error_bp"]
state = []
redraws = 0
gate_draws = 0
[conditions.bp]
rule = "bp"
[conditions.fa]
rule = "fa"
[seeds]
reported = [0, 1]
"""

SEARCH = """
[search]
rates = [0.01, 0.02]
seeds = [100]
"""


def declared(*overrides: str, more: str = "", profile: str = "cpu") -> Study:
    """Return the small study with changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.toml"
        path.write_text(TEXT + more, encoding="utf-8")
        return load_study(path, profile=profile, overrides=overrides)
