"""Query sets in other languages.

Machine candidates, automatic checks, review by a person, the final set.
"""

from icl_local.translate.build import build_set, compare_sets
from icl_local.translate.review import Review, ReviewItem, review_status
from icl_local.translate.sheet import write_sheet
from icl_local.translate.translate import TranslateProgress, translate_queries
