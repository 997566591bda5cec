"""Preference training (DPO) of a base model on TRL, resumable, the paper's run as default."""

from icl_local.dpo.dpo import TrainingRun, plan_training, prepare, train
from icl_local.dpo.parameters import Step
