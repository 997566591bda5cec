"""The queries and the pools of examples of a run: from files, the hub, the samples or Just-Eval."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.exceptions import ConfigError, InputError, UnknownName
from icl_local.files import regular_file
from icl_local.identity import sha256_file
from icl_local.prompting import FILE_SUFFIXES, JsonItem, QuerySet, json_items, queries
from icl_local.prompting.expectations import REGEX
from icl_local.running.shard import Shard
from icl_local.weights import hub

_FILES = f"a file has a name that ends in {', '.join(FILE_SUFFIXES)}"


def load_queries(
    languages: Sequence[str],
    sources: Sequence[str],
    *,
    dataset: str | None = None,
    sample: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    shard: Shard | None = None,
    columns: Mapping[str, str] | None = None,
    overlay: Path | None = None,
) -> list[QuerySet]:
    """Return one query set a language from ``sources``: FILE, LANGUAGE=FILE, ``samples`` or ``just-eval``.

    A plain FILE serves the languages that its items name; items without a language are English, so that no English
    query gets a Spanish prompt. ``columns``: fields that a file has under other names. Raises ConfigError for a
    language without queries, and for a source of no language.
    """
    if sample is not None and limit is not None:
        raise ConfigError("--sample draws queries and --limit takes the first ones; give one of them")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: give at least 1 query")
    by_language, plain = _sources(languages, sources)
    sets = []
    for language in languages:
        source = by_language.get(language, plain)
        if source is None:
            raise ConfigError(
                f"no queries in {language!r}; give them with --queries {language}=FILE (`icl data list` shows sets)"
            )
        if source == queries.SAMPLES:
            found = queries.samples(language, overlay=overlay)
        elif source == queries.JUST_EVAL:
            found = queries.published(language)
        elif Path(source).suffix or Path(source).exists() or source.startswith("hf:"):
            untagged = None if language in by_language or language == "en" else ""
            found = load_set(source, language=language, untagged=untagged, dataset=dataset, columns=columns)
        else:
            raise UnknownName.among("query set or file", source, (queries.SAMPLES, queries.JUST_EVAL), add=_FILES)
        chosen = found.queries
        if sample is not None:
            chosen = tuple(queries.sample(chosen, sample, seed))
        chosen = chosen[:limit] if shard is None else shard.take(chosen[:limit])
        if not chosen:
            raise ConfigError(f"this part has no queries in {language!r}; choose fewer parts than there are queries")
        sets.append(replace(found, queries=chosen))
    return sets


def _sources(languages: Sequence[str], sources: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Return the sources that name their language, and the one of all others. Raises ConfigError."""
    by_language: dict[str, str] = {}
    plain: list[str] = []
    for source in sources:
        language, mark, file = source.partition("=")
        if not mark or Path(source).exists():
            plain.append(source)
        elif not file:
            raise ConfigError(f"--queries {source} names no file; write {source}FILE")
        elif language not in languages:
            raise ConfigError(f"--queries {source} is for a language that --lang lacks; add {language} to it")
        elif language in by_language:
            raise ConfigError(f"--queries {source}: {language!r} has {by_language[language]} already; give one file")
        else:
            by_language[language] = file
    if len(plain) > 1:
        raise ConfigError(f"--queries {plain[1]}: {plain[0]} is given already; write LANG=FILE for one file a language")
    if plain and not set(languages) - by_language.keys():
        raise ConfigError(f"--queries {plain[0]} is not used: every language has a file of its own; leave it out")
    return by_language, plain[0] if plain else None


def load_pools(sources: Sequence[str]) -> dict[str, QuerySet]:
    """Return the pools of examples in ``sources``, NAME=FILE: query files whose items have an `output`.

    Items without a language are English. Raises ConfigError for another form, InputError for a file.
    """
    pools: dict[str, QuerySet] = {}
    for source in sources:
        name, _, file = source.partition("=")
        if not file or not re.fullmatch(r"[\w.-]+", name) or name in pools:
            raise ConfigError(f"--pool {source}: write NAME=FILE, each name once, of letters, digits, . _ and -")
        pools[name] = pool = load_set(file, untagged="en")
        for query in pool.queries:
            if not isinstance(query.fields.get("output"), str):
                raise InputError(f"{file}: the example {query.query_id!r} has no text `output`")
    return pools


def load_set(source: str, **how: Any) -> QuerySet:
    """Return the queries of a file or of a data set of the hub (hf:...); ``how``: as in prompting.queries.query_set."""
    items, origin = read_items(source)
    found = queries.query_set(items, **origin, **how)
    for query in found.queries:
        for pattern in (one["pattern"] for one in query.expected.get("checks", ()) if one["id"] == REGEX):
            try:
                store.matches(pattern, "")
            except InputError as error:
                raise InputError(f"{source}: query {query.query_id!r}: {error}") from error
    return found


def read_items(source: str) -> tuple[list[JsonItem], dict[str, Any]]:
    """Return the items of a file or of a data set of the hub (hf:...), and what query_set records of their origin."""
    address, paths = source.partition("@")[0], [Path(source)]
    recorded, name = paths[0].name, paths[0].stem
    if source.startswith("hf:"):
        split = hub.fetch_dataset(source, FILE_SUFFIXES)
        recorded, paths = str(split.address), [file.path for file in split.files]
        # of the data set, its config and split, or of the file that is named
        name = paths[0].stem if address.endswith(FILE_SUFFIXES) else address.partition("/")[2]
    items: list[JsonItem] = []
    for path in map(regular_file, paths):
        if path.suffix.lower() == ".parquet":
            rows = enumerate(store.read_parquet(path), start=1)
            items += [JsonItem(f"{path}:{number}", row) for number, row in rows]
            continue
        try:
            items += json_items.read_file(path)
        except InputError as error:
            if path.suffix.lower() in FILE_SUFFIXES:
                raise
            raise InputError(f"{error}; query files end in {', '.join(FILE_SUFFIXES)}") from error
    return items, {"source": recorded, "sha256": sha256_file(*paths), "file": source, "name": name}
