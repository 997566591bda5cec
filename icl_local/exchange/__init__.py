"""Files of other tools, and databases of other machines.

Import, export and merge of responses and judgments.
"""

from icl_local.exchange.imports import Imported, holds_judgments, import_outputs

__all__ = ["Imported", "holds_judgments", "import_outputs"]
