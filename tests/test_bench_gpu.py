"""The GPU's benchmark runs where there is none, at a tiny size."""

import torch

from tests.benchmarks.bench_gpu import TINY, report


def test_the_report_has_a_row_for_each_way_to_record():
    told = report(torch.device("cpu"), TINY)
    rows = [line for line in told.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "live, every 1. step",
        "live, every 10. step",
        "a probe's record",
        "a probe's record, redraws=9, null_every=1",
    ]
    assert all(float(row.split(" | ")[1]) > 0 for row in rows)
