"""Why a document was dropped, and how the values of all of them lie around the threshold."""

import copy
import json
import pickle

import numpy as np
from filter_kit import build_filters, document, real_text
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.stages.counts import MEASURED, added, counts_of
from ettin_data.stages.filters import measured
from ettin_data.stages.filters.measured import Measured, Reason, median_dropped
from ettin_data.stages.filters.registry import shipped

thresholds = st.sampled_from([0, 0.01, 0.3, 0.8, 1, 50, 100_000])


def of(values, threshold, at_least):
    one = Measured(threshold, at_least)
    one.recent.extend(values)
    return one.to_json()


@given(st.lists(st.floats(0, 1e7)), thresholds, st.booleans())
def test_bins_are_on_the_side_that_the_rule_decides(values, threshold, at_least):
    values += [threshold, np.nextafter(threshold, 1e9), max(np.nextafter(threshold, -1), 0)]
    bins = {float(name): n for name, n in of(values, threshold, at_least)["bins"].items()}
    assert sum(bins.values()) == len(values)
    dropped = [v for v in values if (v < threshold if at_least else v > threshold)]
    assert sum(n for v, n in bins.items() if (v < threshold if at_least else v > threshold)) == len(dropped)


@given(st.lists(st.lists(st.floats(0, 100)), min_size=1), st.randoms())
def test_bins_of_splits_add_up_in_any_order(parts, rng):
    pieces = [{"f": {MEASURED: {"r": of(part, 3, True)}}} for part in parts]
    whole = of([value for part in parts for value in part], 3, True)
    rng.shuffle(pieces)
    assert added(json.loads(json.dumps(pieces)))["f"][MEASURED]["r"] == whole


@given(st.lists(st.floats(0.001, 0.79), min_size=1))
def test_the_median_of_what_was_dropped_is_about_that(values):
    found = median_dropped(of([*values, 0.9, 0.95], 0.8, True))
    low, high = sorted(values)[(len(values) - 1) // 2], sorted(values)[len(values) // 2]
    assert found is not None and low / 1.11 <= found <= high
    assert median_dropped(of([0.9, 0.8], 0.8, True)) is None


def test_a_reason_is_a_word_that_travels():
    reason = Reason("too_few_chars", 3, 10)
    for other in (pickle.loads(pickle.dumps(reason)), copy.deepcopy(reason)):
        assert (other, other.value, other.threshold) == ("too_few_chars", 3, 10)


def test_a_drop_says_value_and_threshold_and_all_values_are_counted():
    texts = [*real_text(60_000), "", "word " * 9, "#" * 90, "line\n" * 90]
    for name in ("length", "gopher_quality", "gopher_repetition", "c4", "fineweb"):
        options = {"min_chars": 400, "max_words": 300} if name == "length" else {}
        dropped = []
        (step,) = build_filters([{name: options}], lambda _, reason: dropped.append(reason))  # noqa: B023
        list(step.run(map(document, texts)))
        values = counts_of(step)[MEASURED]
        assert dropped
        for reason in dropped:
            if reason in step.options_of and getattr(reason, "value", None) is not None:
                assert reason.value != reason.threshold and str(reason) == reason
                assert hasattr(step, step.options_of[reason])
        for rule, said in values.items():
            broke = sum(
                n
                for v, n in said["bins"].items()
                if (float(v) < said["threshold"] if said["at_least"] else float(v) > said["threshold"])
            )
            # a document without any word is dropped unmeasured
            assert dropped.count(rule) - (rule == "gopher_short_doc") <= broke <= dropped.count(rule)


def test_every_rule_of_ours_names_an_option_that_there_is():
    for kind in shipped().values():
        step_fields = getattr(kind.takes, "__dataclass_fields__", {})
        assert set(kind.takes.options_of.values()) <= set(step_fields)


def test_edges_are_the_same_numbers_everywhere():
    edges = measured.edges(0.8)
    assert 0.8 in edges and edges[0] == 0 and (np.diff(edges) > 0).all()
    around = np.searchsorted(edges, 0.8)
    assert edges[around - 1 : around + 3].tolist() == [0.76, 0.8, 0.8 * 1.1, 0.8 * 1.2]
