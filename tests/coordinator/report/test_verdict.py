"""The verdict for each way a merge can end."""

from __future__ import annotations

import pytest

from coordinator.report.verdict import conclude, verdict

OFF = {"compare_single_models": False}


def both(value):
    return {"a": value, "b": value}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            {"base": both(35.6), "single_a": both(39), "single_b": both(40), "pooled": both(45.5)},
            "The merged model (pooled buffers) has H 45.5, 5.5 above the best single model (b, 40.0).",
        ),
        (
            {"single_a": both(40), "single_b": both(12), "pooled": both(38)},
            "The merged model (pooled buffers) is behind: "
            "it has H 38.0, 2.0 below the best single model (a, 40.0).",
        ),
        (
            {"single_a": both(40), "single_b": both(12), "pooled": both(40)},
            "The merged model (pooled buffers) has H 40.0, level with the best single model (a, 40.0).",
        ),
        (
            {"base": both(50), "single_a": both(40), "single_b": both(41), "pooled": both(45)},
            "The merged model (pooled buffers) has H 45.0, 4.0 above the best single model (b, 41.0). "
            "The base, before any adapting, does better: H 50.0, 5.0 above the merged model.",
        ),
        (
            {"single_a": both(40), "single_b": both(41), "averaged": both(46.4), "pooled": both(45.5)},
            "The merged model (pooled buffers) has H 45.5, 4.5 above the best single model (b, 41.0). "
            "With the same parameters, averaged buffers (H 46.4, 0.9 above pooled) would have done better.",
        ),
        (
            {
                "single_a": both(40),
                "single_b": both(41),
                "buffers_a": both(47),
                "buffers_b": both(20),
                "averaged": both(46),
                "pooled": both(45),
            },
            "The merged model (pooled buffers) has H 45.0, 4.0 above the best single model (b, 41.0). "
            "With the same parameters, averaged buffers (H 46.0, 1.0 above pooled) and "
            "the buffers of a alone (H 47.0, 2.0 above pooled) would have done better.",
        ),
        (
            {"single_a": both(40), "single_b": {"b": 70}, "pooled": both(45)},
            "The merged model (pooled buffers) has H 45.0, 5.0 above the best single model (a, 40.0). "
            "The model of b was not scored in every domain and is left out of that.",
        ),
        (
            {"single_a": both(40), "single_b": both(41), "pooled": {"a": 80, "b": 0}},
            "The merged model (pooled buffers) is behind: "
            "it has H 0.0, 41.0 below the best single model (b, 41.0). "
            "H is 0 because nothing was recognised at b.",
        ),
        (
            {"single_a": both(40), "pooled": {"a": 45}},
            "The merged model (pooled buffers) has H 45.0, 5.0 above the best single model (a, 40.0). "
            "H is over 1 of the campaign's 2 sites: b sent no score of the merged model.",
        ),
        ({"base": both(30)}, "The merged model was not scored: no site has evaluated it."),
        ({"pooled": {}}, "The merged model was not scored: no site has evaluated it."),
    ],
)
def test_compared_with_single_models(tiny, rows, expected):
    assert verdict(tiny(**rows)) == expected


def test_without_comparison_of_single_models_own_domains_and_the_base_stand_in(tiny):
    made = tiny(rules=OFF, base=both(35), single_a={"a": 60}, single_b={"b": 44}, pooled=both(45))
    assert verdict(made) == (
        "The merged model (pooled buffers) has H 45.0, 10.0 above the base (35.0). "
        "It beats the site's own model in 1 of 2 domains; in their own domains the sites' models have 52.0 mIoU "
        "on average, the merged model 45.0. "
        "Single models were not compared across domains (rule compare_single_models is off)."
    )


def test_without_comparison_and_behind_the_base(tiny):
    text = verdict(tiny(rules=OFF, base=both(50), pooled=both(45)))
    assert text.startswith(
        "The merged model (pooled buffers) is behind: it has H 45.0, 5.0 below the base (50.0)."
    )


def test_the_rule_is_not_blamed_when_it_is_on(tiny):
    text = verdict(tiny(rules={"compare_single_models": True}, base=both(50), single_a={"a": 1}, pooled=both(45)))
    assert "No single model was scored in every domain" in text
    assert "is off" not in text


def test_with_nothing_to_compare(tiny):
    assert "there is nothing to compare that with" in verdict(tiny(pooled=both(45)))


def test_the_difference_is_that_of_the_printed_numbers(tiny):
    # H is exactly 45.44 and 40.06 here: 5.38 apart, but a reader subtracts 40.1 from 45.4.
    made = tiny(sites="a", single_a={"a": 40.1}, pooled={"a": 45.4})
    assert "5.3 above" in verdict(made)


def test_names_stay_on_their_line(tiny, hostile):
    assert "\n" not in verdict(hostile)
    assert "\x1b" not in verdict(hostile)
    assert "\u202e" not in verdict(hostile)


def test_conclude_writes_it_into_the_report(tiny):
    made = tiny(single_a=both(40), pooled=both(45))
    assert made.verdict == ""
    assert conclude(made).verdict == verdict(made)


@pytest.mark.parametrize(
    ("h", "said"),
    [(51.5, "H 51.5, 6.5 above pooled."), (45, "H 45.0, level with pooled."), (40, "H 40.0, 5.0 below pooled.")],
)
def test_statistics_of_each_sites_own_images_are_compared_with_pooled_ones(tiny, h, said):
    text = verdict(tiny(single_a=both(40), pooled=both(45), recalibrated=both(h)))
    assert f"With statistics that each site measured on its own unlabelled images it has {said}" in text


def test_without_recalibration_nothing_is_said_of_it(tiny):
    assert "measured" not in verdict(tiny(single_a=both(40), pooled=both(45)))
