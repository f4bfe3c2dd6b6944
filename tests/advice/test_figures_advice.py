"""The advice of fadiag.figures."""

import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.figures import check_suffix, find, write_numbers
from fadiag.results import save_results, select
from tests.advice.advice import Table
from tests.results.synthetic_results import SMALL, synthetic

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def _numbers():
    return find("accuracy").numbers(synthetic(**SMALL, seeds=(0,)))


for _wrong in (
    lambda at: write_numbers(_numbers(), at / "gone" / "x.csv"),
    lambda at: write_numbers(_numbers(), at),
):
    ADVICE.row(
        "the numbers cannot be written to {path}: name a file in a directory that exists",
        _wrong,
        lambda at: write_numbers(_numbers(), at / "x.csv"),
    )
for _suffix in (".pdf", ".png", ".svg"):
    ADVICE.row(
        "its name must end in {', '.join(SUFFIXES)}",
        lambda at: check_suffix(at / "rank.gif"),
        lambda at, suffix=_suffix: check_suffix(at / f"rank{suffix}"),
    )


@ADVICE.story("paired; `fadiag compare` compares unpaired runs")
def _(at, told):
    bp = select(synthetic(**SMALL, seeds=(0, 1, 2, 3)), condition="bp", seed=[0, 1])
    fa = select(synthetic(**SMALL, seeds=(0, 1, 2, 3)), condition="fa", seed=[2, 3])
    both = synthetic(**SMALL, seeds=(0, 1, 2, 3)).filter(lambda node: node.name != "static")
    unpaired = both.isel(run=[0, 1, 6, 7])
    assert unpaired["log"]["seed"].values.tolist() == [0, 1, 2, 3]
    with told() as heard:
        heard.append(find("accuracy").caption(unpaired))
    for side, results in (("a", bp), ("b", fa)):
        save_results(results, at / f"{side}.zarr")
    done = CliRunner().invoke(main, ["compare", str(at / "a.zarr"), str(at / "b.zarr"), "--all"])
    assert done.exit_code == 0, done.output
    (row,) = (line.split() for line in done.stdout.splitlines() if " test_accuracy " in line)
    assert "unpaired" in row
