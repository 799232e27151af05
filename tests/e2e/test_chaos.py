"""A short selection of what ``make chaos`` does: faults to a real federation, and nothing lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import faults
from chaos.rounds import Yard, yard

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
FAULTS = faults.all_faults()


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(tmp_path_factory.mktemp("chaos")) as found:
        yield found


@pytest.mark.parametrize("name", ["at:fold-after"])
def test_a_campaign_ends_with_the_same_model_whatever_happens_to_it(disturbed, name):
    fault = FAULTS[name]
    if why := fault.needs():
        pytest.skip(why)

    result = disturbed.round(1, fault, f"test-{name}")

    assert not result.problem
    assert result.struck
