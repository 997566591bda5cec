"""Critical errors and languages of a text: loops, unintended code, the language it is written in.

Pure functions of the text; their findings are stored with each response. The part of a generated text that is the
answer is found here too.
"""

from icl_local.detect.answer import ANSWER_RULE, Answer, find_answer, find_stop, server_stops, stop_pattern
from icl_local.detect.critical_errors import critical_error_rows, detector_version, identify_language
from icl_local.detect.instructions import followed, require_known
from icl_local.detect.loops import LoopWatch, find_loop
