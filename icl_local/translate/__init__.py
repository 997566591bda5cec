"""Query sets in other languages: machine candidates, automatic checks, review by a person, the final set."""
