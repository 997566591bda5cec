"""Prompts for a model: query sets, methods, languages and chat templates.

A prompt is built here from a query and the files in prompts/.
"""

from icl_local.prompting.chat_template import CHAT_DATE, chat_text
from icl_local.prompting.examples import Pools
from icl_local.prompting.json_items import JsonItem
from icl_local.prompting.methods import (
    PARAMETERS,
    Method,
    language_spec,
    languages,
    method_spec,
    methods,
)
from icl_local.prompting.prompt import Prompt, Recipe, expand
from icl_local.prompting.queries import FILE_SUFFIXES, JUST_EVAL, SAMPLES, Query, QuerySet, load_file, query_from_item
