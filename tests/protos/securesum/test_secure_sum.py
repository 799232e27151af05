"""Whoever drops out, and in whichever order sites answer: the secure sum is the plain one, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.merge.state import MergeState, block_sums, statistic_sum, write_sum
from protos.errors import SecureSumError
from protos.securesum import memory
from protos.securesum import site as site_side
from protos.securesum.agreement import default_threshold

BASE = bytes(32)


@pytest.fixture(scope="module")
def models(model):
    return {f"site-{i}": model(i) for i in range(8)}


@pytest.fixture(scope="module")
def updates(models, update):
    return {site: update(found, site) for site, found in models.items()}


def assert_plain(total, survivors, updates, manifest):
    """Compare all of a secure sum with what the plain path makes of the survivors' updates."""
    terms = [(1, updates[site]) for site in survivors]
    for name, spec in manifest.parameters.items():
        plain = [block.ints().copy() for block in block_sums(terms, name, spec.size)]
        np.testing.assert_array_equal(total.parameter(name), np.concatenate([np.zeros(0, np.int64), *plain]))
    for layer, channels in manifest.layers.items():
        plain, found = statistic_sum(terms, layer, channels), total.statistics(layer)
        assert found.count == plain.count
        assert found.mean.tolist() == plain.mean.tolist()
        assert found.square.tolist() == plain.square.tolist()


@st.composite
def courses(draw):
    """Draw members, a threshold, and for each stage those that answer, in some order; all that is allowed."""
    count = draw(st.integers(3, 8))
    threshold = draw(st.sampled_from([0, *range(count // 2 + 1, count + 1)]))
    least = threshold or default_threshold(count)
    left, stages = [f"site-{i}" for i in range(count)], []
    for _ in range(5):
        gone = draw(st.sets(st.sampled_from(left), max_size=len(left) - least))
        left = [site for site in left if site not in gone]
        stages.append(draw(st.permutations(left)))
    return count, threshold, stages


@given(course=courses())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_and_any_drop_outs_that_the_threshold_allows(secure_sum, models, updates, manifest_for, course):
    count, threshold, stages = course
    chosen = {f"site-{i}": models[f"site-{i}"] for i in range(count)}
    total, survivors = secure_sum(chosen, threshold).run(*stages)
    assert set(survivors) == set(stages[2])
    assert_plain(total, survivors, updates, manifest_for(models["site-0"]))


@pytest.mark.parametrize("count", range(3, 9))
@pytest.mark.parametrize("stage", range(5))
def test_one_site_too_few_at_any_stage_ends_it_and_nobody_revealed_anything_before_the_last(
    secure_sum, models, count, stage
):
    found = secure_sum({f"site-{i}": models[f"site-{i}"] for i in range(count)})
    sites = found.agreement.sites
    stages = [sites] * stage + [sites[: found.agreement.threshold - 1]] * (5 - stage)
    with pytest.raises(SecureSumError, match=rf"only {found.agreement.threshold - 1} of {count} sites"):
        found.run(*stages)
    if stage < 4:
        assert not any(isinstance(memory.load(state), site_side.Revealed) for state in found.states.values())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_sum_has_the_bytes_of_a_merge_state(secure_sum, model, manifest_for, update, tmp_path, dtype):
    models = {site: model(i, dtype) for i, site in enumerate(("clear", "fog", "night"))}
    manifest = manifest_for(models["fog"])
    total, _ = secure_sum(models).run()
    write_sum(tmp_path / "state", manifest, BASE, [(1, update(found, site)) for site, found in models.items()])
    with MergeState(tmp_path / "state") as state:
        for name in manifest.parameters:
            stored = state._file.tensor(f"sum:{name}")
            assert total.parameter(name).tobytes() == stored.tobytes()
        for layer in manifest.layers:
            for part, packed in total.statistics(layer).to_bytes().items():
                assert packed.tobytes() == state._file.tensor(f"{part}:{layer}").tobytes()


def test_extreme_values_and_counts_fit(secure_sum, model, manifest_for, update):
    """The largest magnitudes that float32 and int64 hold, of both signs, and subnormals."""
    models, top, tiny = {}, np.finfo(np.float32).max, np.float32(1e-45)
    for i, site in enumerate(("clear", "fog", "night")):
        found = model(i)
        limit = np.nextafter(np.float32(512), np.float32(0))
        found["norm.weight"] = np.array([limit, -limit, tiny, -tiny], np.float32)
        found["norm.running_mean"] = np.array([top, -top, tiny, -tiny], np.float32)
        found["norm.running_var"] = np.array([top, 0, tiny, top], np.float32)
        found["norm.num_batches_tracked"] = np.asarray((1 << 63) - 1, np.int64)
        models[site] = found
    total, survivors = secure_sum(models).run()
    updates = {site: update(found, site) for site, found in models.items()}
    assert_plain(total, survivors, updates, manifest_for(models["fog"]))


def test_a_failed_attempt_can_be_begun_anew_and_gives_the_same_sum(secure_sum, models, updates, manifest_for):
    chosen = {site: models[site] for site in ("site-0", "site-1", "site-2")}
    first = secure_sum(chosen)
    with pytest.raises(SecureSumError):
        first.run(first.agreement.sites, first.agreement.sites, ["site-0"])
    second = secure_sum(chosen, nonce=b"second attempt!!")
    before = {site: memory.load(state) for site, state in first.states.items()}
    second.begin = lambda site: second.keep(
        site, site_side.begin(second.agreement, site, second.keys[site], before[site])
    )
    total, survivors = second.run()
    assert_plain(total, survivors, updates, manifest_for(models["site-0"]))
