import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.spans import (
    merge_spans,
    read_spans,
    temporal_iou,
    temporal_recall,
    write_spans,
)

TIMES = st.integers(min_value=0, max_value=400)
SPANS = st.lists(
    st.tuples(TIMES, TIMES).map(lambda pair: (float(min(pair)), float(max(pair)) + 1)), max_size=5
)


def covered(spans):
    """The covered whole seconds, counted one by one. It shares no code with ours."""
    found = np.zeros(500, dtype=bool)
    for start, end in spans:
        found[int(start) : int(end)] = True
    return found


@given(said=SPANS, gold=SPANS)
def test_iou_and_recall_equal_a_count_of_seconds(said, gold):
    a, b = covered(said), covered(gold)
    either = int((a | b).sum())
    assert temporal_iou(said, gold) == pytest.approx(int((a & b).sum()) / either if either else 0.0)
    recall = int((a & b).sum()) / int(b.sum()) if b.any() else 0.0
    assert temporal_recall(said, gold) == pytest.approx(recall)
    assert temporal_iou(gold, said) == pytest.approx(temporal_iou(said, gold))


@given(spans=SPANS)
def test_spans_are_written_and_read_alike(spans):
    merged = merge_spans(spans)
    if merged:
        assert read_spans(write_spans(merged)) == merged


@given(text=st.text(max_size=60))
def test_any_text_is_read_without_an_error(text):
    found = read_spans(text)
    assert isinstance(found, str) or all(start < end for start, end in found)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("12.5-40", ((12.5, 40.0),)),
        ("12.5 s to 40 s.", ((12.5, 40.0),)),
        ("[12.5, 40]", ((12.5, 40.0),)),
        ("[[1, 2], [3, 4]]"[1:-1], ((1.0, 2.0), (3.0, 4.0))),
        ("01:02 - 1:05:00", ((62.0, 3900.0),)),
        ("1-2; 3-4 and 5-6\n7-8", ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0))),
    ],
)
def test_forms_that_are_read(text, spans):
    assert read_spans(text) == spans


@pytest.mark.parametrize(
    "text", ["", "12", "40-12", "5-5", "soon", "1-2 x", "nan-inf", "1-2;" * 40][:]
)
def test_what_is_no_stretch_is_said(text):
    assert isinstance(read_spans(text), str)
