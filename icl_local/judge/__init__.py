"""Scoring stored responses with an LLM judge, and never a score the judge did not give."""
