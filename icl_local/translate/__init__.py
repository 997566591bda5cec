"""Query sets in other languages.

Machine candidates, automatic checks, review by a person, the final set.
"""

from icl_local.translate.build import build_set, compare_sets
from icl_local.translate.llm import LocalEngine
from icl_local.translate.review import Item, Review, score_missing
from icl_local.translate.runner import TranslateProgress, load_sources, translate_missing
from icl_local.translate.sheet import read_sheet, write_sheet
from icl_local.translate.spec import open_engine

__all__ = [
    "Item",
    "LocalEngine",
    "Review",
    "TranslateProgress",
    "build_set",
    "compare_sets",
    "load_sources",
    "open_engine",
    "read_sheet",
    "score_missing",
    "translate_missing",
    "write_sheet",
]
