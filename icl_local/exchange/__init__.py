"""Files of other tools, and databases of other machines."""

from icl_local.exchange.imports import MAKER, NOT_JUDGED, Imported, holds_judgments, import_outputs
