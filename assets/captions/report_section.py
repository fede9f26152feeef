"""What the report says of captions: their statistics, set by set."""

from __future__ import annotations

from assets.pages.sections import Section, Sources
from assets.pages.tables import Column, Table

COLUMNS = {
    "captions": Column("Captions"),
    "num_images": Column("Images", ","),
    "words_per_caption": Column("Words per caption", ",.2f"),
    "nouns_per_image": Column("N/I", ",.2f"),
    "unique_nouns": Column("UN", ","),
    "image_noun_pairs": Column("I-N", ","),
    "near_duplicate_share": Column("Near-duplicates", ",.3f"),
}


def captions_section(sources: Sources) -> Section:
    """Statistics of alt-texts and of each set of generated captions."""
    rows = [[row[name] for name in COLUMNS] for row in sources.rows("caption_statistics")]
    return Section(
        "Captions",
        "captions",
        [
            "Nouns by spaCy's tagger, as in Table 3 of the scalability paper: N/I nouns per image, UN different nouns, I-N "
            "pairs of an image and a noun said of it."
        ],
        [Table(list(COLUMNS.values()), rows)],
        sources.figures("caption_figures"),
        missing="Materialize caption_statistics.",
    )
