"""The advice of fadiag.report."""

import pytest
import xarray as xr

from fadiag.analysis import analyze
from fadiag.report import write_report
from fadiag.report.alerts import RULES, alerts
from tests.advice.advice import Table
from tests.conftest import build_run
from tests.report.doubtful import DOUBTS, asked, sound

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def _results():
    runs = {"run": ["a"], "condition": ("run", ["fa"]), "seed": ("run", [0]), "step": [0, 9]}
    log = xr.Dataset({"test_accuracy": (("run", "step"), [[0.1, 0.9]])}, runs)
    return xr.DataTree.from_dict({"/log": log})


for _wrong in ("gone/report.html", "."):
    ADVICE.row(
        "a report cannot be written to {path}: name a file in a directory that exists",
        lambda at, wrong=_wrong: write_report(_results(), at / wrong),
        lambda at: write_report(_results(), at / "report.html"),
    )
ADVICE.row(
    "the results hold no run, so there is nothing to report; analyze recorded runs first",
    lambda at: write_report(xr.DataTree(), at / "report.html"),
    lambda at: write_report(analyze(build_run(0), metrics=["error_effective_rank_raw"]), at / "report.html"),
)


#: Advice that an alert gives. Each is obeyed by results in which the doubt is mended.
for _rule in RULES:

    def _story(folder, provoked, rule=_rule):
        with provoked() as heard:
            results = DOUBTS[rule.name]()
            heard += [str(alert) for alert in alerts(results, asked(results))]
        assert alerts(sound(), asked(sound())) == []

    ADVICE.story(_rule.advice)(_story)
