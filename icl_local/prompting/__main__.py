"""``python -m icl_local.prompting``: the process that renders chat templates; see icl_local.prompting.chat_template."""

from icl_local.prompting.chat_template import main

main()
