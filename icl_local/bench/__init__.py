"""Speed of this engine compared with its alternatives.

The same weights, prompts and token limits for every contender.
"""

from icl_local.bench.bench import compare, run
