"""Files of other tools, and databases of other machines.

Import, export and merge of responses and judgments.
"""

from icl_local.exchange.imports import MAKER, NOT_JUDGED, Imported, holds_judgments, import_outputs

__all__ = ["MAKER", "NOT_JUDGED", "Imported", "holds_judgments", "import_outputs"]
