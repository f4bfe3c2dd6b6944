"""Say what a study cannot conclude, from its declaration and its tables."""

from collections.abc import Iterator, Mapping, Sequence

from fadiag.spectra.statistics.sign_flip import FEWEST as FEWEST_PAIRS
from fadiag.studies.declared.study import Study
from fadiag.training.recording import LOGGED

__all__ = ["limits_of"]


def limits_of(study: Study, tables: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Yield sentences on what does not follow from the tables of a study."""
    seeds = len(study.seeds.reported)
    if seeds < FEWEST_PAIRS:
        number = f"{seeds} seed{'s' * (seeds != 1)}"
        yield f"With {number} there is no p-value, and a difference may exist and not be seen."
    primary = next((row for row in tables["contrasts"] if row["primary"] == "true"), None)
    if primary is not None and primary.get("low") and float(primary["low"]) <= 0 <= float(primary["high"]):
        yield "An interval that holds zero does not show that there is no difference."
    if primary is not None and primary.get("low"):
        layer = "" if study.primary.metric in LOGGED else "one layer and "
        yield f"The answer is of one metric at {layer}one step; others may differ."
    if any(row["status"] == "diverged" for row in tables["table"]):
        yield "Runs that diverged have no value. They are not lost at random, so the others are a choice."
    edges = {row["condition"] for row in tables["search"] if row["at_edge"] == "true"}
    if edges:
        yield f"The rate of {', '.join(sorted(edges))} is at the edge of the search; a better may be outside."
    untuned = [c.name for c in study.conditions.values() if not c.searched and c.rate_from is None]
    if untuned:
        yield f"The rates of {', '.join(untuned)} are declared, not searched here."
    taken = [f"{c.name} (from {c.rate_from})" for c in study.conditions.values() if c.rate_from is not None]
    if taken:
        yield f"These conditions have the rate of another, which may not suit them: {', '.join(taken)}."
    lost = {row["condition"] for row in tables["search"] if row["trains_at_no_rate"] == "true"}
    if lost:
        yield f"Nothing is said of {', '.join(sorted(lost))}, which trains at no rate of the search."
    configs = [c.config for c in study.conditions.values()]
    data, models = {c.data.name for c in configs}, {c.model.name for c in configs}
    yield (
        f"The runs are of {', '.join(sorted(data))} and {', '.join(sorted(models))}. Another data set, "
        "network or length of training may give another answer."
    )
