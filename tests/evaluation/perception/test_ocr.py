"""Engines read rendered words, say who they are, and tell at once what is missing."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pyarrow as pa
import pytest
from jaxtyping import UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from evaluation.perception.ocr.model import build_ocr_worker, reader_of
from evaluation.perception.ocr.reading import Line, joined
from evaluation.perception.role_models import Nomination, Workplace, make_model
from evaluation.perception.roles import ROLES
from evaluation.tables.perception import READINGS
from training.errors import FoundryError

FONT = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans Mono", weight="bold"))
WORDS = ["STOP", "OPEN", "QUARTZ", "KLMNX"]
needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="tesseract is not installed here"
)


def rendered(word: str, *, size: tuple[int, int] = (96, 32), cap_px: int = 20) -> UInt8[np.ndarray, "h w 3"]:
    """White capitals on a red sign."""
    image = Image.new("RGB", size, (180, 40, 40))
    draw = ImageDraw.Draw(image)
    draw.text(
        (size[0] / 2, size[1] / 2), word, (255, 255, 255), ImageFont.truetype(FONT, cap_px), anchor="mm"
    )
    return np.asarray(image)


def png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def nothing_here(_: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """No bank of drawings is asked for."""
    raise AssertionError


@pytest.fixture
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace without a bank."""
    return Workplace(nothing_here, tmp_path_factory.mktemp("cache"), 1)


def test_rapidocr_reads_what_was_rendered_and_nothing_where_there_is_nothing() -> None:
    reader = reader_of("rapidocr", {"detector_side_px": 256}, 1)
    assert [joined(reader.lines(rendered(word)))[0] for word in WORDS] == WORDS
    assert reader.lines(np.full((32, 64, 3), 120, np.uint8)) == []
    two = np.concatenate([rendered("STOP"), rendered("OPEN")])
    lines = reader.lines(two)
    assert [line.text for line in lines] == ["STOP", "OPEN"]
    assert lines[0].middle_y < 0.5 < lines[1].middle_y


@needs_tesseract
def test_tesseract_reads_large_words() -> None:
    reader = reader_of("tesseract", {"command": "tesseract", "page_mode": 6, "language": "eng"}, 1)
    large = [rendered(word, size=(384, 128), cap_px=80) for word in WORDS[:3]]
    assert [joined(reader.lines(image))[0] for image in large] == WORDS[:3]
    assert reader.name.startswith("tesseract ")
    with pytest.raises(FoundryError, match="language 'xyz' is not installed, found .*eng"):
        reader_of("tesseract", {"language": "xyz"}, 1)


def test_a_worker_answers_a_row_a_picture_with_the_engine_named(workplace: Workplace) -> None:
    model = make_model(Nomination("embedded", ROLES["ocr"], {"family": "embedded"}), workplace)
    factory, arguments = model.worker()
    table = factory(**arguments)(
        pa.table(
            {"sample_id": ["a", "b"], "image": [png(rendered("STOP")), png(np.zeros((32, 64, 3), np.uint8))]}
        )
    )
    assert table.schema == READINGS
    assert table["text"].to_pylist() == ["STOP", ""]
    assert set(table["model"].to_pylist()) == {model.name}
    assert "rapidocr 3.10.0" in model.name
    assert "detector at 256 px" in model.name
    assert set(table["model_digest"].to_pylist()) == {model.digest}
    with pytest.raises(FoundryError, match="sample broken"):
        factory(**arguments)(pa.table({"sample_id": ["broken"], "image": [b"no"]}))


def test_settings_change_the_digest_and_mistakes_are_named(workplace: Workplace) -> None:
    def model(family: str, role: str = "ocr", **settings: object) -> str:
        return make_model(Nomination("mine", ROLES[role], {"family": family, **settings}), workplace).digest

    assert model("rapidocr") == model("embedded")
    assert model("rapidocr", detector_side_px=736) != model("rapidocr")
    with pytest.raises(FoundryError, match="detector_side_px"):
        model("rapidocr", detector_side=1)
    with pytest.raises(FoundryError, match="rapidocr fills the role 'ocr' only"):
        model("rapidocr", role="captioner")


def test_an_engine_that_is_not_installed_says_so_before_any_work(workplace: Workplace) -> None:
    with pytest.raises(FoundryError, match="no command 'no-such-tesseract' here; install"):
        make_model(
            Nomination("t", ROLES["ocr"], {"family": "tesseract", "command": "no-such-tesseract"}), workplace
        )
    with pytest.raises(FoundryError, match="easyocr.*(not installed|no weights)"):
        make_model(Nomination("e", ROLES["ocr"], {"family": "easyocr", "folder": "/nowhere"}), workplace)
    with pytest.raises(FoundryError, match="'paddle' is not known; name one of rapidocr"):
        build_ocr_worker("paddle", {}, 1)


def test_lines_join_with_their_mean_confidence() -> None:
    assert joined([Line("A", 0.5), Line("", 0.0), Line("B", 1.0)]) == ("A B", 0.75)
    assert joined([]) == ("", 0.0)
