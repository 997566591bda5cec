"""Faults planted in good translations, to measure the checks by: scripts/evaluate_translation_checks.

The pairs are tests/translation_pairs.jsonl and the sample queries, English into Spanish and French. Every kind of
fault is made without looking at how the checks find it.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from icl_local.prompting import queries

PER_KIND = 50
LANGUAGES = ("es", "fr")

ANSWERS = {
    "es": (
        "Claro, con mucho gusto. Lo primero es tener en cuenta el contexto, porque casi siempre depende de él. Después "
        "conviene comparar las distintas opciones con calma y quedarse con la más sencilla. Por último, recuerda que "
        "siempre puedes pedir ayuda a alguien con experiencia.",
        "1. Reúne lo que necesitas.\n2. Sigue los pasos con calma.\n3. Comprueba el resultado.\n4. Repite si falta.",
        "La respuesta corta es que sí, aunque con matices que vale la pena conocer.",
        "Aquí tienes la traducción:\n\n{text}",
        "**Resumen**\n\n- Depende del caso.\n- Lo habitual es empezar por lo básico.\n- Consulta a un experto.",
        "En pocas palabras, todo se debe a la costumbre.",
    ),
    "fr": (
        "Bien sûr, avec plaisir. Il faut d'abord tenir compte du contexte, car presque tout en dépend. Ensuite, mieux "
        "vaut comparer calmement les possibilités et retenir la plus simple. Enfin, n'oubliez pas que vous pouvez "
        "toujours demander l'aide d'une personne expérimentée.",
        "1. Rassemblez ce qu'il vous faut.\n2. Suivez les étapes.\n3. Vérifiez le résultat.\n4. Recommencez au besoin.",
        "La réponse est oui, mais avec quelques nuances qu'il vaut la peine de connaître.",
        "Voici la traduction :\n\n{text}",
        "**En bref**\n\n- Tout dépend du cas.\n- On commence par les bases.\n- Demandez à un spécialiste.",
        "En un mot, c'est une question d'habitude.",
    ),
}
REFUSALS = {
    "es": (
        "Lo siento, pero no puedo ayudarte con eso.",
        "No puedo traducir este texto porque podría causar daño.",
        "Lo lamento, no me es posible cumplir con esa solicitud.",
        "Como modelo de lenguaje, no debo ofrecer ese tipo de contenido.",
        "Disculpa, pero esa petición va contra mis normas.",
        "Prefiero no responder a esta petición.",
        "I'm sorry, but I can't assist with that request.",
    ),
    "fr": (
        "Je suis désolé, mais je ne peux pas vous aider à ce sujet.",
        "Je ne peux pas traduire ce texte, car il pourrait nuire à autrui.",
        "Désolé, cette demande est contraire à mes règles.",
        "En tant qu'IA, je ne suis pas autorisée à fournir ce contenu.",
        "Il m'est impossible de répondre à cette demande.",
        "Je préfère ne pas donner suite à cette demande.",
        "I cannot help with that.",
    ),
}
# every number counts as one, but a digit inside code, a URL or a placeholder is theirs
SPAN = {
    "code_changed": re.compile(r"```.*?```|`[^`]+`|\w+\(\)|[a-z_]+\.\w+\(\w*\)|\\textbf\{word\}", re.DOTALL),
    "urls_changed": re.compile(r"https?://[\w./?=-]*\w|[\w.]+@[\w.]+\w"),
    "placeholders_changed": re.compile(r"\$?\{\w+\}|%d|</?\w+>|\[NAME\]"),
    "numbers_changed": re.compile(r"\d+"),
}


@dataclass(frozen=True)
class Case:
    """A candidate and the kind of fault in it; None for a good translation."""

    kind: str | None
    language: str
    source: str
    candidate: str


def controls() -> list[Case]:
    """All good translations."""
    lines = Path(__file__).with_name("translation_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    found = [Case(None, code, pair["en"], pair[code]) for pair in map(json.loads, lines) for code in LANGUAGES]
    english = {query.query_id: query.instruction for query in queries.samples("en").queries}
    for code in LANGUAGES:
        for query in queries.samples(code).queries:
            found.append(Case(None, code, english[query.query_id], query.instruction))
    return found


def planted(seed: int = 0) -> list[Case]:
    """PER_KIND cases of every kind, each from another good translation as far as there are enough."""
    found = []
    for kind, plant in PLANTERS.items():
        draw = random.Random(f"{seed} {kind}")
        good = controls()
        draw.shuffle(good)
        made: list[Case] = []
        for number, case in enumerate(itertools.islice(itertools.cycle(good), 100 * PER_KIND)):
            fault = plant(case, draw, number)
            if fault is not None and (made_case := Case(kind, case.language, case.source, fault)) not in made:
                made.append(made_case)
            if len(made) == PER_KIND:
                break
        assert len(made) == PER_KIND, f"too few different faults of kind {kind}"
        found += made
    return found


def _untranslated(case: Case, draw: random.Random, number: int) -> str | None:
    """The source itself, the source in other punctuation, or half a translation."""
    sentences = re.split(r"(?<=[.?!:])\s+", case.source)
    if number % 3 == 0 or len(sentences) == 1:
        return case.source
    if number % 3 == 1:
        return case.source.lower().rstrip("?.!")
    own = re.split(r"(?<=[.?!:])\s+", case.candidate)
    if "```" in sentences[len(sentences) // 2]:
        return None  # what would be left in English is code
    return " ".join([*own[: len(own) // 2], *sentences[len(sentences) // 2 :]])


def _answered(case: Case, draw: random.Random, number: int) -> str | None:
    return ANSWERS[case.language][number % 6].format(text=case.candidate)


def _refused(case: Case, draw: random.Random, number: int) -> str | None:
    return REFUSALS[case.language][number % 7]


def _looping(case: Case, draw: random.Random, number: int) -> str | None:
    words = case.candidate.split()
    at = draw.randrange(1, len(words))
    unit = words[max(0, at - draw.choice([1, 2, 4, 8])) : at]
    return " ".join([*words[:at], *(unit * draw.choice([4, 6, 12, 30]))])


def _empty(case: Case, draw: random.Random, number: int) -> str | None:
    return draw.choice(["", " ", "\n", "...", "¿?", '""', "-", "…", "\t\n", "()"])


def _changed(kind: str) -> Callable[[Case, random.Random, int], str | None]:
    """One span of the kind changed, dropped or doubled."""

    def plant(case: Case, draw: random.Random, number: int) -> str | None:
        others = [m.span() for name, span in SPAN.items() if name != kind for m in span.finditer(case.candidate)]
        places = [
            m
            for m in SPAN[kind].finditer(case.candidate)
            if kind == "code_changed" or not any(a < m.end() and m.start() < b for a, b in others)
        ]
        if not places:
            return None
        place = draw.choice(places)
        text = place[0]
        way = draw.randrange(3)
        if kind == "numbers_changed":
            digit = draw.randrange(len(text))
            other = str((int(text[digit]) + draw.randrange(1, 9)) % 10)
            new = "" if way == 0 else text[:digit] + other + text[digit + 1 :] if way == 1 else text + "7"
        else:
            at = draw.randrange(1, len(text))
            new = "" if way == 0 else text[:at] + draw.choice("kzqw") + text[at:] if way == 1 else f"{text} {text}"
        return case.candidate[: place.start()] + new + case.candidate[place.end() :]

    return plant


PLANTERS: dict[str, Callable[[Case, random.Random, int], str | None]] = {
    "untranslated": _untranslated,
    "answered": _answered,
    "refused": _refused,
    "looping": _looping,
    "empty": _empty,
    **{kind: _changed(kind) for kind in SPAN},
}
