"""A whole matrix of models, methods and languages from one file: plan it, run it.

Training, conversion, generation and judging in order, each resumed where it stopped.
"""

from icl_local.study.plan import plan_study
from icl_local.study.spec import load_study
from icl_local.study.study import Outcome, grids, prepare, run_study
