"""Write the section of a study's page on its conditions: values at the ends, and runs beyond nulls."""

from collections.abc import Mapping, Sequence

from fadiag.figures.words.glossary import defined
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.against_null import NULLS
from fadiag.studies.outputs.text import number, plain, table_of

__all__ = ["conditions_of_study"]

Row = Mapping[str, str]


def conditions_of_study(study: Study, rows: Sequence[Row], runs: Sequence[Row]) -> list[str]:
    """Return the texts of the section, from the rows of the conditions and of the runs."""
    primary = study.primary.metric
    held = dict.fromkeys(rows[0] if rows else ())
    shown = [key for key in held if key.endswith("_accuracy")]
    shown += [key for key in (f"{primary}_first", primary) if key in held and key not in shown]
    nulls = {stem: words for name, words in NULLS.items() if f"{(stem := f'{primary}_{name}')}_runs" in held}
    steps = dict.fromkeys(row[f"{primary}_first_step"] for row in runs if row.get(f"{primary}_first_step"))
    start = f"{plain(primary)} at step {', '.join(steps)}"
    head = ["condition", "runs", "learning rate"]
    head += [start if key == f"{primary}_first" else plain(key) for key in shown]
    head += [f"runs below / above the {words}" for words in nulls.values()]
    body = []
    for row in rows:
        rest = f" (rest {number(row['rest_learning_rate'])})" if row.get("rest_learning_rate") else ""
        rest += f", of {row['rate_from']}" if row.get("rate_from") else ""
        name = f"{row['condition']} (control)" if row["control"] == "true" else row["condition"]
        whole = int(row["runs"]) - int(row["diverged"])
        runs_of = row["runs"] if row["diverged"] == "0" else f"{whole} of {row['runs']}"
        cells = [_with_interval(row, key, crossed=bool(study.seeds.cross)) for key in shown]
        cells += [
            f"{row[f'{stem}_below']} / {row[f'{stem}_above']} of {row[f'{stem}_runs']}"
            if row.get(f"{stem}_runs")
            else ""
            for stem in nulls
        ]
        body.append([name, runs_of, f"{number(row['learning_rate'])}{rest}", *cells])
    layers = sorted({row["layer"] for row in runs if row["layer"]})
    where = f" Metrics are those of {', '.join(layers)}." if layers else ""
    interval = (
        " (without intervals, since they share seeds)"
        if study.seeds.cross
        else " with 95 % t intervals, cut to the possible values"
    )
    return [
        f"Means over runs{interval}, at the last step.{where}",
        table_of(head, body),
        _beyond(rows, nulls) if nulls else "",
        "[table.csv](table.csv) has every run, [conditions.csv](conditions.csv) every number of a condition.",
    ]


def _beyond(rows: Sequence[Row], nulls: Mapping[str, str]) -> str:
    """Return what each null is, with its draws and the steps at which it was drawn."""
    drawn = []
    for stem, words in nulls.items():
        step, draws = (
            ", ".join(dict.fromkeys(row[key] for row in rows if row.get(key := f"{stem}_{part}")))
            for part in ("step", "draws")
        )
        drawn.append(f"{words}: step {step}{f', {draws} draws a run' if draws else ''}")
    return (
        f"Below and above are outside of the central 95 % of the run's own null ({'; '.join(drawn)}). "
        f"{defined(nulls.values())} "
        "[conditions.csv](conditions.csv) has the mean and the ends of each null, averaged over runs."
    )


def _with_interval(row: Row, key: str, *, crossed: bool) -> str:
    low, high, n = (row.get(f"{key}_{part}") or "" for part in ("low", "high", "n"))
    interval = f" [{number(low)}, {number(high)}]" if low and high else ""
    if n.isdigit() and int(n) > 1 and not interval and not crossed:
        interval = f" (equal in {n} runs, no interval)"
    dead = row.get(f"{key}_dead") or "0"
    gone = f" ({dead} of {int(n or 0) + int(dead)} runs dead, left out)" if dead != "0" else ""
    return f"{number(row.get(key, ''))}{interval}{gone}"
