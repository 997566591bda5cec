"""Preference training (DPO) of a base model on TRL, resumable, the paper's run as default."""

from icl_local.dpo.dpo import TrainingInputs, TrainingRun, plan_training, prepare, train
from icl_local.dpo.parameters import Step, TrainingPlan

__all__ = ["Step", "TrainingInputs", "TrainingPlan", "TrainingRun", "plan_training", "prepare", "train"]
