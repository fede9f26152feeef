from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.perception.embedded import conse
from evaluation.perception.embedded.bank import COLOR_WEIGHT, ConceptBank, build_bank, concept_similarities
from evaluation.perception.embedded.bank_views import (
    SCENE_SIDES_PX,
    clean_view,
    color_shares,
    decode_picture,
    on_paper,
    scene_views,
)
from evaluation.perception.embedded.calibration import Logistic, fit_logistic, fit_temperature, softmax
from evaluation.perception.embedded.colors import COLOR_WORDS
from evaluation.perception.embedded.identity import bank_inputs_digest
from evaluation.perception.embedded.naming import name_crops
from tests.evaluation.perception.composites import png
from tests.evaluation.perception.conftest import VOCABULARY, bank_pictures
from training.errors import FoundryError


def test_imagenet_names_are_in_the_order_of_the_logits() -> None:
    names = conse.imagenet_names()
    assert len(names) == 1000
    assert (names[0], names[805], names[999]) == ("tench", "soccer ball", "toilet tissue")


def test_conse_equals_a_slow_loop_and_does_not_depend_on_the_batch() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 50)) * 3
    classes, texts = random.normal(size=(50, 8)), random.normal(size=(6, 8))
    mean = classes.mean(axis=0)
    expected = np.empty((4, 6))
    for image in range(4):
        probability = np.exp(logits[image]) / np.exp(logits[image]).sum()
        top = np.argsort(-probability)[:10]
        vector = sum(probability[index] * classes[index] for index in top) / probability[top].sum() - mean
        for text in range(6):
            other = texts[text] - mean
            expected[image, text] = vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)
    found = conse.conse_scores(logits, texts, classes)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(conse.conse_scores(logits[:1], texts, classes), found[:1], atol=1e-6)


def test_logistic_finds_the_curve_the_labels_were_drawn_from() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(-2, 2, 4000)
    labels = random.random(4000) < Logistic(3.0, -1.0)(x)
    found = fit_logistic(x, labels)
    assert found.intercept == pytest.approx(-1.0, abs=0.25)
    assert 2.3 < found.slope < 3.3  # the ridge pulls it down a little


@pytest.mark.parametrize(("labels", "expected"), [([True] * 4, 0.9), ([False] * 4, 0.1)])
def test_logistic_of_one_group_is_a_cautious_constant(labels: list[bool], expected: float) -> None:
    found = fit_logistic(np.arange(4.0), np.array(labels))
    np.testing.assert_allclose(found(np.array([-9.0, 9.0])), expected)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.floats(0.01, 1))
def test_softmax_is_a_distribution(scores: list[float], temperature: float) -> None:
    shares = softmax(np.array([scores]), temperature)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()


def test_temperature_is_sharp_for_clear_scores_and_flat_for_noise() -> None:
    truth = np.arange(40) % 4
    clear = np.eye(4)[truth]
    noise = np.random.default_rng(0).normal(size=(40, 4))
    assert fit_temperature(clear, truth) < 0.1
    assert fit_temperature(noise, truth) == pytest.approx(0.5)


def test_similarity_takes_the_likest_view_of_each_concept() -> None:
    random = np.random.default_rng(0)
    views, crops = random.normal(size=(5, 1280)), random.normal(size=(3, 1280))
    view_colors, crop_colors = random.dirichlet(np.ones(12), 5), random.dirichlet(np.ones(12), 3)
    center, owner = random.normal(size=1280), np.array([0, 0, 1, 1, 1])
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    found = concept_similarities(crops, crop_colors, views, view_colors, center, owner)
    for crop in range(3):
        feature = (crops[crop] - center) / np.linalg.norm(crops[crop] - center)
        for concept in range(2):
            own = [view for view in range(5) if owner[view] == concept]
            cosine = max(float(feature @ views[view]) for view in own)
            agreement = max(sum(map(min, crop_colors[crop], view_colors[view])) for view in own)
            assert found[crop, concept] == pytest.approx(cosine + COLOR_WEIGHT * agreement)


NO_COLORS = np.zeros((1, len(COLOR_WORDS)))


def test_bank_views_are_named_by_their_concept_and_strangers_are_not(bank: ConceptBank) -> None:
    logits = np.zeros((len(bank.features), 1000))
    namings = name_crops(bank.features + bank.center, logits, bank.colors, bank)
    assert [naming.names[0] for naming in namings] == [bank.concepts[index] for index in bank.view_concept]
    assert all(naming.source == "concept_bank" and 0.5 <= naming.scores[0] <= 1 for naming in namings)
    stranger = name_crops(bank.center[None], np.zeros((1, 1000)), NO_COLORS, bank)[0]
    assert (stranger.names, stranger.source) == ((), "none")


def test_colors_tell_apart_what_looks_alike(bank: ConceptBank) -> None:
    apple = bank.concepts.index("apple")
    own = np.flatnonzero(bank.view_concept == apple)[:1]
    blue = np.eye(len(COLOR_WORDS))[[COLOR_WORDS.index("blue")]]
    looks, logits = bank.features[own] + bank.center, np.zeros((1, 1000))
    right, wrong = (name_crops(looks, logits, colors, bank)[0] for colors in (bank.colors[own], blue))
    assert right.names[0] == "apple"
    assert not wrong.names or wrong.scores[0] < right.scores[0]


def test_crops_as_perception_cuts_them_are_found_and_repeatable() -> None:
    for name, data in bank_pictures().items():
        picture = decode_picture(data, name)
        views = scene_views(picture, name)
        assert len(views) >= len(SCENE_SIDES_PX) - 1
        clean = clean_view(picture, 34, name)
        for view, again in zip(views, scene_views(picture, name), strict=True):
            np.testing.assert_array_equal(view.image_hwc, again.image_hwc)
            assert np.minimum(view.color_shares, clean.color_shares).sum() > 0.6
    assert color_shares(np.zeros((0, 3), np.uint8)).sum() == 0


def test_conse_answers_where_the_bank_cannot_and_is_trusted(bank: ConceptBank) -> None:
    trusting = dataclasses.replace(bank, known=(0.0, -20.0), conse_right=(0.0, 2.0))
    logits = np.zeros((1, 1000))
    logits[0, conse.imagenet_names().index("soccer ball")] = 20
    naming = name_crops(bank.center[None], logits, NO_COLORS, trusting)[0]
    assert (naming.source, naming.names[0]) == ("conse", "soccer ball")
    assert all(0 <= score <= 1 for score in naming.scores)
    assert list(naming.scores) == sorted(naming.scores, reverse=True)


def test_bank_survives_the_way_to_a_worker_and_says_when_it_changed(bank: ConceptBank) -> None:
    again = ConceptBank.from_bytes(bank.to_bytes())
    assert again.to_bytes() == bank.to_bytes()
    assert again.inputs_digest == bank_inputs_digest(bank_pictures(), VOCABULARY)
    assert again.concepts == ("apple", "cat", "fish", "tree")
    assert again.vocabulary == VOCABULARY
    changed = {**bank_pictures(), "apple": bank_pictures()["cat"]}
    others = {
        bank_inputs_digest(changed, VOCABULARY),
        bank_inputs_digest(bank_pictures(), VOCABULARY[1:]),
        bank_inputs_digest(bank_pictures(), VOCABULARY, 96),
    }
    assert len(others | {bank.inputs_digest}) == 4


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04 half a zip"])
def test_what_is_no_bank_is_refused(data: bytes) -> None:
    with pytest.raises(FoundryError, match="build it again"):
        ConceptBank.from_bytes(data)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((20, 20, 4), np.uint8), "is empty"),
        (np.full((20, 20, 3), 9, np.uint8), "is empty"),
        (np.zeros((4, 20, 3), np.uint8), "20x4 pixels; at least 8"),
    ],
)
def test_unusable_bank_pictures_are_named(picture: np.ndarray, message: str) -> None:
    with pytest.raises(FoundryError, match=f"'blank'.*{message}"):
        build_bank({"blank": png(picture), "other": png(picture)}, ["word"])


def test_bank_bytes_that_are_no_picture_are_named() -> None:
    with pytest.raises(FoundryError, match="'blank': cannot be decoded"):
        build_bank({"blank": b"no", "other": b"no"}, ["word"])


def test_a_bank_of_one_or_without_words_is_refused() -> None:
    picture = png(np.zeros((20, 20, 4), np.uint8))
    with pytest.raises(FoundryError, match="1 concepts and 1 words"):
        build_bank({"one": picture}, ["word"])
    with pytest.raises(FoundryError, match="0 words"):
        build_bank({"one": picture, "two": picture}, [])


def test_paper_keeps_holes_and_hides_the_background() -> None:
    image = np.full((20, 30, 3), 7, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:20] = True
    mask[8:10, 8:10] = False
    paper = on_paper(image, mask)
    assert paper.shape == (18, 18, 3)
    assert int((paper == 7).all(axis=2).sum()) == 150
