"""Preference training of a base model with TRL, as the study ran it.

Data, settings, trainer, and the plan of what a run costs.
"""

from icl_local.dpo.dpo import Step, TrainingRun, plan_training, set_threads, train
from icl_local.dpo.settings import TrainingPlan

__all__ = ["Step", "TrainingPlan", "TrainingRun", "plan_training", "set_threads", "train"]
