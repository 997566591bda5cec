"""Inputs of tiny DPO runs."""

from __future__ import annotations

from typing import Any

from icl_local.dpo.parameters import parameters


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Write about {question}"}, {"role": "assistant", "content": answer}]


def tiny_run(**changes: Any) -> Any:
    return parameters(**{"learning_rate": 5e-3, "max_steps": 4, "gradient_accumulation": 2} | changes)
