"""Labels that corrected means and trust need: whose they are, and how to make them where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl_local.exceptions import ConfigError
from icl_local.wording import shell

if TYPE_CHECKING:
    from icl_local.results.paper_tables import Views

HUMAN = "human"


def no_labels(views: Views, sample: str | None = None) -> ConfigError:
    """Return the error for answers without labels: how to draw a sample, or to label the answers of one."""
    samples = [str(row["sample"]) for row in views.named("samples")]
    db = shell(views.database)
    if not samples:
        return ConfigError(f"labels need a sample; draw one: icl sample draw PILOT --per-cell 100 --seed 1 --db {db}")
    (named,) = views.named("trust_names")
    name, against = sample or samples[0], str(named["reference"])
    human = against.startswith(HUMAN)
    how = f"browse --rate {name} --rater YOUR-NAME" if human else f"judge --judge {against} --sample {name}"
    return ConfigError(f"no answer of {name} has a label; make some: icl {how} --db {db}")
