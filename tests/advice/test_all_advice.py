"""No advice without a test: each text of the code that bids something is in a table."""

import pytest

from tests.advice import (
    test_spectra_advice,
)
from tests.advice.advice import advice_in

TABLES = {"spectra": test_spectra_advice.ADVICE}


@pytest.mark.parametrize("package", TABLES)
def test_every_advice_is_in_a_table(package):
    table, texts = TABLES[package], advice_in(package)
    missing = [f"{place}: {text}" for place, text in texts if not any(row.says in text for row in table)]
    assert not missing, "give tests/advice a row for:\n" + "\n".join(missing)


@pytest.mark.parametrize("package", TABLES)
def test_no_row_is_of_an_advice_that_is_gone(package):
    texts = [text for _, text in advice_in(package)]
    assert [row.says for row in TABLES[package] if not any(row.says in text for text in texts)] == []
