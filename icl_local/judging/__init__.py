"""Scoring stored responses with an LLM judge.

Every attempt is kept, and a score that the judge did not give is NULL.
"""

from icl_local.judging.api import ApiJudge
from icl_local.judging.batch import Collected
from icl_local.judging.estimate import COLUMNS, TOKENS_PER_ASPECT, TOKENS_PER_VERDICT, preview
from icl_local.judging.imports import import_judgments
from icl_local.judging.ledger import Selection
from icl_local.judging.local import LocalJudge, OpenWorker
from icl_local.judging.runner import JudgeProgress, judge_missing
from icl_local.judging.spec import open_judge
from icl_local.judging.template import Templates, open_templates

__all__ = [
    "COLUMNS",
    "TOKENS_PER_ASPECT",
    "TOKENS_PER_VERDICT",
    "ApiJudge",
    "Collected",
    "JudgeProgress",
    "LocalJudge",
    "OpenWorker",
    "Selection",
    "Templates",
    "import_judgments",
    "judge_missing",
    "open_judge",
    "open_templates",
    "preview",
]
