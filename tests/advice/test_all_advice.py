"""No advice without a test: each text of the code that bids something is in a table."""

import pytest

from tests.advice import (
    test_analysis_advice,
    test_capture_model_advice,
    test_capture_probe_advice,
    test_capture_run_advice,
    test_cli_advice,
    test_figures_advice,
    test_report_advice,
    test_results_advice,
    test_rules_advice,
    test_spectra_advice,
    test_store_advice,
    test_studies_advice,
    test_testing_advice,
    test_training_advice,
)
from tests.advice.advice import bids, texts_in

TABLES = {
    "analysis": test_analysis_advice.ADVICE,
    "capture": [
        *test_capture_model_advice.ADVICE,
        *test_capture_probe_advice.ADVICE,
        *test_capture_run_advice.ADVICE,
    ],
    "cli": test_cli_advice.ADVICE,
    "figures": test_figures_advice.ADVICE,
    "report": test_report_advice.ADVICE,
    "results": test_results_advice.ADVICE,
    "rules": test_rules_advice.ADVICE,
    "spectra": test_spectra_advice.ADVICE,
    "store": test_store_advice.ADVICE,
    "studies": test_studies_advice.ADVICE,
    "testing.py": test_testing_advice.ADVICE,
    "training": test_training_advice.ADVICE,
}


@pytest.mark.parametrize("package", TABLES)
def test_every_advice_is_in_a_table(package):
    table = TABLES[package]
    advice = [(place, text) for place, text in texts_in(package) if bids(text)]
    missing = [f"{place}: {text}" for place, text in advice if not any(row.says in text for row in table)]
    assert not missing, "give tests/advice a row for:\n" + "\n".join(missing)


@pytest.mark.parametrize("package", TABLES)
def test_no_row_is_of_an_advice_that_is_gone(package):
    texts = [text for _, text in texts_in(package)]
    assert [row.says for row in TABLES[package] if not any(row.says in text for text in texts)] == []
