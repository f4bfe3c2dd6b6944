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
def _(at, provoked):
    unpaired = synthetic(**SMALL, seeds=(0, 1, 2, 3)).isel(run=[0, 1, 6, 7])  # seeds 0, 1 of bp, 2, 3 of fa
    with provoked() as heard:
        heard.append(find("accuracy").caption(unpaired))
    for side, condition in (("a", "bp"), ("b", "fa")):
        save_results(select(unpaired, condition=condition), at / f"{side}.zarr")
    done = CliRunner().invoke(main, ["compare", str(at / "a.zarr"), str(at / "b.zarr"), "--all"])
    assert done.exit_code == 0, done.output
    (row,) = (line.split() for line in done.stdout.splitlines() if " test_accuracy " in line)
    assert "unpaired" in row
