"""Names that options and functions take: tables, figures, readings, errors; imports no other module of the package."""

from typing import Literal, get_args

Reading = Literal["strict", "just_eval", "expected"]  # of scores
Loops = Literal["strict", "literal"]  # readings of a loop
Error = Literal["infinite_loop", "infinite_loop_literal", "unintended_code"]
READINGS: tuple[str, ...] = get_args(Reading)
LOOPS: tuple[str, ...] = get_args(Loops)
ERRORS: tuple[str, ...] = get_args(Error)
SAMPLED_ERRORS = ("infinite_loop", "unintended_code")  # that people label
EXPORTS = ("just-eval", "alpaca-eval", "csv", "parquet", "every-eval-ever")  # formats of icl export

TABLES = {
    "1": "Table 1. Scores in English",
    "2": "Table 2. Scores by language",
    "3": "Table 3. Scores without and with DPO",
    "4": "Table 4. Critical errors in English, percent",
    "6": "Table 6. Critical errors in other languages, percent",
    "8": "Table 8. Critical errors without and with DPO, percent",
    "metrics": "Metrics of rules and other judges, 0 to 1",
    "methods": "Parameters of methods",
    "variance": "Variance between examples, orders, draws and verdicts",
    "sentences": "Sentences of sections 5.1 to 5.3 and 6, recomputed",
    "audit": "Slips in the published figures",
}
FIGURES = {
    "2": "Figure 2. Scores by language",
    "3": "Figure 3. Scores without and with DPO",
    "4": "Figure 4. Critical errors",
    "size": "Scores by model size",
    "shift": "Token shift",
    "decoding": "Critical errors and language by temperature",
}
