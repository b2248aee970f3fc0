"""Whether each fault of the catalogue is tried: its number begins the docstring of a test."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = [
    f"{kind}{n}" for kind, last in (("W", 40), ("E", 26), ("K", 25)) for n in range(1, last + 1)
]

ELSEWHERE = {"K16": HERE.parent / "cli"}
"""Rows whose tests are in another folder."""

UNTRIED = {
    "K22": "this whole suite is it, with the versions of constraints-lowest.txt",
}


def rows_in(folder):
    """Return the rows with which docstrings of tests in *folder* begin."""
    rows = set()
    for file in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node) or ""
                if node.name.startswith("test_") and re.match(r"[WEK]\d+(, [WEK]\d+)*:", doc):
                    rows.update(doc.partition(":")[0].split(", "))
    return rows


@pytest.fixture(scope="module")
def tried():
    """The rows that are tried, by the folder of their tests."""
    return {folder: rows_in(folder) for folder in (HERE, *ELSEWHERE.values())}


@pytest.mark.parametrize("row", [row for row in ROWS if row not in UNTRIED])
def test_each_fault_is_tried(tried, row):
    """
    A row without a test would be a promise that nobody keeps.
    """
    assert row in tried[ELSEWHERE.get(row, HERE)]


def test_no_test_is_of_a_fault_that_is_not_in_the_catalogue(tried):
    """
    A number with a slip would hide that another row is missing.
    """
    assert set().union(*tried.values()) <= set(ROWS) - set(UNTRIED)
