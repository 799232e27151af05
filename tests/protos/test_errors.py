"""The error tree is a contract with scripts, and its documentation tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protos import errors
from protos.errors import MergeRangeError, OnebasinError, SignatureError, UpdateRefusedError

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OnebasinError)]
DOCUMENT = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def documented() -> dict[str, str]:
    """Return each row's code by its error, or by its code where no error stands in it."""
    rows = re.findall(r"^\| *(\d+) *\| *(\S+) *\| *\S.* *\| *\S.* *\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {error if error.isalpha() else code: code for code, error in rows}


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_error_has_a_row_with_its_code(kind):
    assert documented().get(kind.__name__) == str(kind.exit_code)


def test_codes_that_are_no_errors_of_ours_are_documented_too():
    assert {"0", "2", "130"} <= documented().keys()


def test_no_row_is_of_an_error_that_there_is_not():
    assert {name for name in documented() if name.isalpha()} == {kind.__name__ for kind in TREE}


def test_no_two_errors_share_a_code():
    codes = [kind.exit_code for kind in TREE]
    assert len(set(codes)) == len(codes)
    assert not {0, 2, 130} & set(codes)


def test_the_text_says_what_happened_and_on_the_next_line_what_to_do():
    assert str(OnebasinError("it broke", "mend it")) == "it broke\n  → mend it"
    assert str(OnebasinError("it broke")) == "it broke"


def test_refusals_carry_site_and_tensor():
    for kind in (UpdateRefusedError, SignatureError, MergeRangeError):
        error = kind("x", "y", site="fog", tensor="w")
        assert isinstance(error, UpdateRefusedError)
        assert (error.site, error.tensor) == ("fog", "w")
