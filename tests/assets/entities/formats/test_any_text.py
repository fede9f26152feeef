"""Any text that a table can hold comes back from the formats that are lossless for text."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.entities.formats import coco, huggingface, layoutsam_eval, webdataset
from assets.entities.formats.records import AnnotatedCaption, AnnotatedEntity, AnnotatedImage
from tests.assets.entities.formats.makers import records

# Landing keeps lone surrogates and NULs out of every table.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60)
Writer = Callable[[Path, Iterator[AnnotatedImage]], int]
Reader = Callable[[Path], Iterator[AnnotatedImage]]


def _record(texts: list[str]) -> AnnotatedImage:
    entities = tuple(AnnotatedEntity(text, text, (0.0, 0.125, 0.5, 0.625)) for text in texts)
    return dataclasses.replace(
        records(1)[0],
        captions=(AnnotatedCaption("c" + texts[0], texts[0]),),
        entities=entities,
        attribution=texts[0],
    )


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (huggingface.write_huggingface, huggingface.read_huggingface),
        (webdataset.write_webdataset, webdataset.read_webdataset),
        (coco.write_coco, coco.read_coco),
    ],
)
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_whole_records(write: Writer, read: Reader, texts: list[str]) -> None:
    record = _record(texts)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), iter([record]))
        assert list(read(Path(folder))) == [record]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=4))
def test_lists_that_are_strings(texts: list[str]) -> None:
    record = _record(texts)
    with tempfile.TemporaryDirectory() as folder:
        layoutsam_eval.write_layoutsam_eval(Path(folder), iter([record]))
        (found,) = layoutsam_eval.read_layoutsam_eval(Path(folder))
    assert [entity.phrase for entity in found.entities] == texts
    assert [entity.description for entity in found.entities] == texts
