"""Scoring stored responses: by LLM judges, and by people who label samples.

Every attempt is kept, and a score that the judge did not give is NULL.
"""

from icl_local.judging.batch import Collected
from icl_local.judging.equating import equate
from icl_local.judging.estimate import Estimate, Load, estimates
from icl_local.judging.imports import ImportedVerdicts, import_judgments
from icl_local.judging.judges import ApiJudge
from icl_local.judging.judging import JudgeResult, check_judge, idle_options, judge, open_judge, templates_of
from icl_local.judging.just_eval_verdicts import pull as pull_verdicts
from icl_local.judging.ledger import Judge, JudgeProgress, Scope, judge_missing
from icl_local.judging.power import notes as what_sizes_show
from icl_local.judging.rating import open_rating, rating_page
from icl_local.judging.rules import RulesJudge
from icl_local.judging.samples import draw as draw_sample
from icl_local.judging.samples import list_samples
