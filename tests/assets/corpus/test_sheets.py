from __future__ import annotations

import io
import subprocess
import sys

import pyarrow as pa
from PIL import Image

from assets.corpus.scenes import load_world
from assets.corpus.sheets import image_sheet, scene_sheet
from assets.graph.schemas import LANDED_IMAGES
from tests.assets.corpus.makers import PROFILES, picture


def test_sheets_are_small_jpegs() -> None:
    landed = pa.table({"image": [picture(0, 300, 20), picture(1)], "alt_text": ["<b>bold</b>", "ü🦊"]})
    world = load_world(PROFILES / "smoke" / "world.yaml")
    for sheet in (scene_sheet(world), image_sheet(landed), image_sheet(LANDED_IMAGES.empty_table())):
        assert Image.open(io.BytesIO(sheet)).format == "JPEG"
        assert len(sheet) < 150_000


def test_nothing_heavy_is_imported() -> None:
    modules = ["scenes", "landing", "importing", "curation", "sheets", "art", "image_io"]
    heavy = ["torch", "dagster", "ray", "matplotlib", "scipy", "duckdb", "cv2", "diffusers", "transformers"]
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module("assets.corpus." + name)
print([name for name in {heavy!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
