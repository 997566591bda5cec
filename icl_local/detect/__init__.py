"""Critical errors and languages of a text: loops, unintended code, the language it is written in.

Pure functions of the text; what they find is stored with each response.
"""

from icl_local.detect.critical_errors import DETECTOR_VERSION, critical_error_rows, detector_version, identify_language
from icl_local.detect.loops import LoopWatch, find_loop

__all__ = ["DETECTOR_VERSION", "LoopWatch", "critical_error_rows", "detector_version", "find_loop", "identify_language"]
