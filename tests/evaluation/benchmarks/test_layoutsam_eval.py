"""The protocol against a slow and obvious reference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluation.benchmarks.layoutsam_eval import Judge, ask, scores
from evaluation.benchmarks.samples import LayoutSample, sample_of_row
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.questions import Asked, attribute_question, is_yes, spatial_question
from evaluation.tables.layout_eval import LAYOUT_ANSWERS, LAYOUT_EVAL_SCORES
from tests.evaluation.benchmarks.makers import Scripted, box, judge, picture, png, published_row, sample
from training.errors import FoundryError

SAMPLES = [
    sample("a", box("a cup", "a red/white cup"), box("a hat", "a round hat")),
    sample("b", box("a dog")),
    sample("none"),
]
PICTURES = {name: picture((20, 20, 20)) for name in ("a", "b", "none")}


def opinion(question: str) -> str:
    """A judge's answer, a function of the question's text alone."""
    return "Yes." if sum(question.encode()) % 3 else "No"


def reference(samples: list[LayoutSample]) -> dict[str, float]:
    """The published loop: ask about every box, attributes only after a Yes, sum over all boxes."""
    hits = dict.fromkeys(("spatial", "color", "texture", "shape"), 0)
    count = 0
    for one in samples:
        for asked in one.boxes:
            count += 1
            if is_yes(opinion(spatial_question(asked.phrase))):
                hits["spatial"] += 1
                for attribute in ("color", "texture", "shape"):
                    question = attribute_question(asked.phrase, attribute, asked.detail)
                    hits[attribute] += is_yes(opinion(question))
    return {name: value / count for name, value in hits.items()}


def by_question(rows: pa.Table) -> pa.Table:
    """The same opinions as a batch function."""
    said = [opinion(question) for question in rows["question"].to_pylist()]
    return pa.table(
        {"question_id": rows["question_id"], "answer": said, "is_yes": [is_yes(text) for text in said]}
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4), min_size=1, max_size=6
    )
)
def test_scores_are_those_of_the_published_loop(layouts: list[list[tuple[str, str]]]) -> None:
    samples = [
        sample(str(number), *(box(phrase, detail) for phrase, detail in layout))
        for number, layout in enumerate(layouts)
    ]
    pictures = {one.image_id: b"" for one in samples}
    answers = ask(samples, pictures, Judge("o", "d", by_question), pictures_at_once=2)
    if not any(layouts):
        assert answers.num_rows == 0
        return
    found = {row["metric"]: row for row in scores(answers).to_pylist()}
    for name, value in reference(samples).items():
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["value"] <= found["spatial"]["value"]
        assert found[name]["num_boxes"] == sum(map(len, layouts))
        assert found[name]["num_asked"] == found["spatial"]["num_yes"] or name == "spatial"


def test_every_answer_is_kept_and_attributes_are_asked_where_the_entity_is() -> None:
    script = Scripted(lambda asked, image, place: "yes" if asked.region != "a hat" else "No, it is not")
    answers = ask(SAMPLES, PICTURES, Judge("one", "d1", script))
    assert answers.schema.equals(LAYOUT_ANSWERS, check_metadata=True)
    rows = answers.to_pylist()
    assert [(row["image_id"], row["box_index"], row["spatial"]) for row in rows] == [
        ("a", 0, True), ("a", 1, False), ("b", 0, True),
    ]  # fmt: skip
    assert (rows[1]["spatial_answer"], rows[1]["color"], rows[1]["color_answer"]) == (
        "No, it is not",
        None,
        None,
    )
    assert (rows[0]["color"], rows[0]["shape_answer"]) == (True, "yes")
    assert not [name for name in script.asked if name.startswith("a/1/") and not name.endswith("spatial")]
    assert len(script.asked) == 3 + 2 * 3


def test_intervals_resample_prompts_not_boxes() -> None:
    """Ten equal boxes in a picture say what one does."""
    few = [sample(str(n), box("yes" if n % 2 else "no")) for n in range(20)]
    many = [sample(one.image_id, *one.boxes * 10) for one in few]
    pictures = {one.image_id: b"" for one in few}
    who = judge(lambda asked, image, place: "Yes" if asked.region == "yes" else "No")
    narrow, wide = (scores(ask(samples, pictures, who)).to_pylist()[0] for samples in (many, few))
    for name in ("value", "value_low", "value_high", "num_prompts"):
        assert narrow[name] == pytest.approx(wide[name])
    assert narrow["num_boxes"] == 10 * wide["num_boxes"]
    assert scores(ask(few, pictures, who)).schema.equals(LAYOUT_EVAL_SCORES, check_metadata=True)


@pytest.mark.parametrize(("width", "height"), [(200, 100), (1024, 1024), (512, 512), (64, 96)])
def test_crops_follow_the_size_of_the_picture_that_was_drawn(width: int, height: int) -> None:
    """A sample of 200 x 100 pixels, drawn at any size: its second box is the lower right quarter."""
    asked = sample_of_row(published_row("s"), "row 0").boxes[1]
    drawn = np.zeros((height, width, 3), dtype=np.uint8)
    drawn[height // 2 :, width // 2 :] = (250, 0, 0)
    part = crop(open_image(png(drawn), "s", 4096), asked.box_xyxy_norm, 0.0)
    assert part.size == (width // 2, height // 2)
    assert np.asarray(part).reshape(-1, 3).min(axis=0).tolist() == [250, 0, 0]
    assert isinstance(part, Image.Image)


def test_a_judge_sees_the_picture_of_its_sample() -> None:
    pictures = {"a": picture((1, 1, 1)), "b": picture((2, 2, 2)), "none": b""}
    seen: dict[str, bytes] = {}

    def say(asked: Asked, image: bytes, place: list[float]) -> str:
        seen[asked.region] = image
        return "No"

    ask(SAMPLES, pictures, judge(say), pictures_at_once=1)
    assert seen == {"a cup": pictures["a"], "a hat": pictures["a"], "a dog": pictures["b"]}


def test_what_cannot_be_scored_is_told() -> None:
    who = judge(lambda asked, image, place: "Yes")
    with pytest.raises(FoundryError, match="2 of 3 samples have no picture, such as b, none"):
        ask(SAMPLES, {"a": b""}, who)
    with pytest.raises(FoundryError, match="found no boxes"):
        scores(LAYOUT_ANSWERS.empty_table())
    silent = Judge("silent", "d", lambda rows: by_question(rows.slice(1)))
    with pytest.raises(
        FoundryError, match="judge 'silent': left 1 of 3 questions unanswered, such as a/0/spatial"
    ):
        ask(SAMPLES, PICTURES, silent)
    both = pa.concat_tables([ask(SAMPLES, PICTURES, judge(lambda *_: "No", name)) for name in ("x", "y")])
    with pytest.raises(FoundryError, match=r"answers of 2 judges \(x, y\)"):
        scores(both)
