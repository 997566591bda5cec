"""Critical errors and languages of a text: loops, unintended code, the language it is written in.

Pure functions of the text; what they find is stored with each response. Which part of a generated text is the answer
is decided here too.
"""

from icl_local.detect.answer import ANSWER_RULE, Answer, find_answer, find_stop, server_stops, stop_pattern
from icl_local.detect.critical_errors import DETECTOR_VERSION, critical_error_rows, detector_version, identify_language
from icl_local.detect.loops import LoopWatch, find_loop

__all__ = [
    "ANSWER_RULE",
    "DETECTOR_VERSION",
    "Answer",
    "LoopWatch",
    "critical_error_rows",
    "detector_version",
    "find_answer",
    "find_loop",
    "find_stop",
    "identify_language",
    "server_stops",
    "stop_pattern",
]
