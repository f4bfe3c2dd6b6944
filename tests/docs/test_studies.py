"""The pages of studies: every number of their text is in their tables, and a clean commit made them."""

import csv
import json
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "studies"
FOLDERS = sorted(path.parent for path in PAGES.glob("*/study.json"))
#: A number with decimals, as it is written for readers.
DECIMAL = re.compile(r"(?<![\w.,])[−-]?\d[\d,]*\.\d+(?![\w.])")


def cells(folder: Path) -> list[float]:
    """Return all numbers of the tables of a study, also those in the captions of its figures."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                for cell in row:
                    try:
                        found.append(float(cell))
                    except ValueError:
                        found += [float(n.replace("−", "-").replace(",", "")) for n in DECIMAL.findall(cell)]
    return found


def is_in(text: str, held: list[float]) -> bool:
    """Return whether a number is that of a cell, or its per cent, with the digits that are written."""
    value, digits = float(text.replace("−", "-").replace(",", "")), len(text.rpartition(".")[2])
    half = 0.5001 * 10**-digits
    return any(abs(scale * cell - value) <= half for cell in held for scale in (1, 100, -1, -100))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_number_of_a_page_is_in_its_tables(folder: Path) -> None:
    text = (folder / "index.md").read_text(encoding="utf-8")
    held = cells(folder)
    strange = [number for number in DECIMAL.findall(text) if not is_in(number, held)]
    assert not strange


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_clean_commit_made_the_page(folder: Path) -> None:
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[0-9a-f]{40}", facts["commit"])
    assert f"`{facts['commit']}`" in (folder / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_study_of_the_page_is_the_declared_one(folder: Path) -> None:
    from fadiag.studies import find_study, load_study

    declared = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(load_study(find_study(folder.name)).declaration()))
    for condition in (*declared["conditions"].values(), *now["conditions"].values()):
        del condition["config"]["data"]["folder"]
    for key in ("question", "primary", "conditions", "seeds", "search"):
        assert declared[key] == now[key], key


def test_numbers_that_are_in_no_table_are_found() -> None:
    assert DECIMAL.findall("−0.12, 3.5 % and [1,234.5, 6] of v0.2.0") == ["−0.12", "3.5", "1,234.5"]
    assert is_in("−0.12", [-0.1234])
    assert is_in("12.3", [0.1234])
    assert not is_in("12.4", [0.1234])
