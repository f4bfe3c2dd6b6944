"""The README's lines run, and every test and recipe that a page names is there."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import fadiag

ROOT = Path(fadiag.__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_readmes_six_lines_run(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

    def train_step(model, batch, optimizer):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()

    def loss(model, batch):
        return cross_entropy(model(batch[0]), batch[1])

    batch = torch.randn(16, 6), torch.randint(3, (16,))
    here = {
        "fadiag": fadiag,
        "model": model,
        "x_test": batch[0],
        "y_test": batch[1],
        "loss": loss,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": [batch] * 60,
        "train_step": train_step,
    }
    exec(code, here)
    assert list(here["results"]["probe"]["step"].values) == [0, 50, 60]
    assert Path("fig1.pdf").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_and_recipes_are_there(page):
    named = re.findall(r"`((?:tests|hooks)/[\w./]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []
