"""Every rule under DistributedDataParallel: two processes learn what one learns from the whole batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.rules.two_processes import CASES, X, Y, network, train

WORKER = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, object]]]:
    """Run the two processes once."""
    folder = tmp_path_factory.mktemp("ranks")
    root = WORKER.parents[2]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rules.two_processes", str(rank), str(folder)], cwd=root
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("rule", CASES)
def test_two_processes_have_one_feedback_and_learn_as_one(rule: str, found: list) -> None:
    one, other = (ranks[rule] for ranks in found)
    assert one["before"] == other["before"] != one["after"] == other["after"]
    whole = torch.cat([p.detach().flatten() for p in train(network(rule), X, Y).parameters()])
    two = torch.tensor(one["weights"], dtype=torch.float64)
    if rule == "rank_limited":  # each process projects the error of its own half
        assert not torch.allclose(two, whole, rtol=0, atol=1e-8)
    else:
        torch.testing.assert_close(two, whole, rtol=0, atol=1e-14)
