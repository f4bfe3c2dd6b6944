"""Write the page of a study in plain words; its numbers and captions come from the CSV tables next to it."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fadiag.studies.declared.declaration import flat
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.against_null import NULLS
from fadiag.studies.outputs.limits import limits_of
from fadiag.training import Config
from fadiag.training.recording import LOGGED

__all__ = ["answer_of", "write_page"]

Row = Mapping[str, str]
_EXPECTED = {"lower": "lower", "upper": "higher"}
_PAIRS = {"paired": "paired seeds", "crossed": "pairs of crossed seeds"}


def answer_of(folder: Path) -> str:
    """Return the answer to the declared question in one sentence, from the tables in a folder."""
    declared = _declaration(folder)["primary"]
    condition, baseline = declared["contrast"]
    rows = [row for row in read_rows(folder / "contrasts.csv") if row["primary"] == "true"]
    row = rows[0] if rows else {}
    if not row.get("difference"):
        lost = [one for one in read_rows(folder / "search.csv") if one["trains_at_no_rate"] == "true"]
        names = [name for name in (condition, baseline) if any(one["condition"] == name for one in lost)]
        why = f"{' and '.join(names)} trains at no rate of the search" if names else row.get("note", "")
        return f"There is no answer: {why or 'the contrast has no value'}."
    where = f" at {row['layer']}" if row["layer"] else ""
    what = f"{plain(row['metric'])}{where}"
    values = f"{condition} − {baseline} = {number(row['difference'])}"
    runs = f"{row['runs']} {_PAIRS.get(row['design'], 'runs')}"
    diverged = {one["condition"] for one in read_rows(folder / "table.csv") if one["status"] == "diverged"}
    if int(row["runs"]) < int(row["planned"]) or diverged & {condition, baseline}:
        return (
            f"Nothing is claimed of {what}, since runs are missing, dead or diverged: {values} over "
            f"{_of_planned(row)} pairs ({row['note']})."
        )
    if not row["low"]:
        return f"Nothing is claimed of {what}, since there is no interval: {values} ({row['note']})."
    interval = f"{values}, 95 % interval [{number(row['low'])}, {number(row['high'])}]"
    p = f", p = {number(row['p'])}" if row["p"] else ""
    if row["differs"] == "false":
        return f"No difference in {what} is detectable: {interval}, {runs}{p}."
    side = "higher" if float(row["low"]) > 0 else "lower"
    expected = _EXPECTED.get(declared["tail"])
    as_asked = {None: "", side: ", as expected"}.get(expected, ", against the expectation")
    return f"{what[0].upper()}{what[1:]} is {side} under {condition}{as_asked}: {interval}, {runs}{p}."


def write_page(study: Study, folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write ``page.md`` from the tables in the folder and the facts of how they were made."""
    tables = {
        name: read_rows(folder / f"{name}.csv")
        for name in ("table", "conditions", "contrasts", "search", "figures")
    }
    amendments = _declaration(folder)["amendments"]
    sections = {
        "": [f"# {study.name}", study.question],
        "Answer": [f"**{answer_of(folder)}**"],
        "Declared before the first run": [] if amendments else _declared(study),
        "Declared, and changed later": [*_declared(study), *_changed(amendments)] if amendments else [],
        "Conditions": _conditions(study, tables["conditions"], tables["table"]),
        "Differences": _differences(study, tables["contrasts"]),
        "Learning rates": _search(study, tables["search"]),
        "Runs that diverged": _diverged(tables["table"]),
        "What cannot be concluded": [_list(limits_of(study, tables))],
        "Figures": _drawn(study, tables["figures"]),
        "How it was made": _made(study, facts),
    }
    parts = [
        "\n\n".join([*([f"## {title}"] if title else []), *filter(None, texts)])
        for title, texts in sections.items()
        if any(texts)
    ]
    path = folder / "page.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _declaration(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / "study.json").read_bytes(), type=dict[str, Any])


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; an empty file has none."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> str:
    """Return a number of a table with four digits, and nothing for an empty cell.

    >>> number("0.123456"), number("-12345.6"), number("")
    ('0.1235', '−12,350', '')
    """
    if not text:
        return ""
    value = float(text)
    digits = f"{float(f'{value:.4g}'):,.10g}" if abs(value) >= 1e-4 or not value else f"{value:.3g}"
    return digits.replace("-", "−")


def plain(metric: str) -> str:
    """Return the name of a metric in words."""
    return metric.replace("_", " ")


def _declared(study: Study) -> list[str]:
    primary, seeds = study.primary, study.seeds
    condition, baseline = primary.contrast
    expected = _EXPECTED.get(primary.tail, "on either side")
    layer = "" if primary.metric in LOGGED else f", layer: {primary.layer.replace('_', ' ')}"
    crossed = f", crossed: {' × '.join(seeds.cross)}" if seeds.cross else ""
    lines = [
        f"primary metric: `{primary.metric}`{layer}, at the last step",
        f"contrast: {condition} − {baseline}, expected {expected}",
        f"seeds: {', '.join(map(str, seeds.reported))}{crossed}; runs of one seed share first weights, "
        "batches and feedback",
        f"profile: {study.profile}",
    ]
    if study.search is not None:
        settings = ", ".join(f"{one:g}" for one in study.search.rates or study.search.factors or ())
        lines.append(
            f"search: {'rates' if study.search.rates else 'factors on the declared rates'} {settings}, seeds "
            f"{', '.join(map(str, study.search.seeds))}, by {plain(study.search.score)}"
        )
    return [_list(lines), "All other numbers are secondary. [study.json](study.json) holds the declaration."]


def _changed(amendments: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in amendments:
        of = f"{', '.join(one['conditions'])}: " if one["conditions"] else ""
        was, now = ("nothing" if one[key] is None else one[key] for key in ("before", "after"))
        lines.append(f"{of}`{one['key']}` was {was}, now {now} ({one['date']})")
    return ["Changed after the first declaration; the list above holds the new values:", _list(lines)]


def _conditions(study: Study, rows: Sequence[Row], runs: Sequence[Row]) -> list[str]:
    primary = study.primary.metric
    held = dict.fromkeys(rows[0] if rows else ())
    shown = [key for key in held if key.endswith("_accuracy")]
    shown += [key for key in (f"{primary}_first", primary) if key in held and key not in shown]
    nulls = [stem for name in NULLS.values() if f"{(stem := f'{primary}_{name}')}_runs" in held]
    steps = dict.fromkeys(row[f"{primary}_first_step"] for row in runs if row.get(f"{primary}_first_step"))
    start = f"at step {', '.join(steps)}"
    head = ["condition", "runs", "learning rate"]
    head += [start if key == f"{primary}_first" else plain(key) for key in shown]
    head += [f"runs below / above the {plain(stem.removeprefix(f'{primary}_'))}" for stem in nulls]
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
        _table(head, body),
        _beyond(rows, nulls) if nulls else "",
        "[table.csv](table.csv) has every run, [conditions.csv](conditions.csv) every number of a condition.",
    ]


def _beyond(rows: Sequence[Row], stems: Sequence[str]) -> str:
    """Return what a null is, and the steps at which it was drawn."""
    steps = dict.fromkeys(row[f"{stem}_step"] for stem in stems for row in rows if row.get(f"{stem}_step"))
    return (
        "Below and above are outside of the central 95 % of the null of the same run, at step "
        f"{', '.join(steps)}. Without an effect, about one run in forty lies on each side. conditions.csv has "
        "the mean and the ends of each null."
    )


def _with_interval(row: Row, key: str, *, crossed: bool) -> str:
    low, high, n = (row.get(f"{key}_{part}") or "" for part in ("low", "high", "n"))
    interval = f" [{number(low)}, {number(high)}]" if low and high else ""
    if n.isdigit() and int(n) > 1 and not interval and not crossed:
        interval = f" (equal in {n} runs, no interval)"
    dead = row.get(f"{key}_dead") or "0"
    gone = f" ({dead} of {int(n or 0) + int(dead)} runs dead, left out)" if dead != "0" else ""
    return f"{number(row.get(key, ''))}{interval}{gone}"


def _differences(study: Study, rows: Sequence[Row]) -> list[str]:
    near = [row for row in rows if row["primary"] == "true" or row.get("at_primary_layer") == "true"]
    shown = [row for row in near if row.get("difference") or row["primary"] == "true"]
    with_p = any(row.get("p") for row in shown)  # it needs six pairs
    body = []
    for row in shown:
        name = f"{row['condition']} − {row['baseline']}"
        interval = f"[{number(row['low'])}, {number(row['high'])}]" if row.get("low") else ""
        cells = [
            f"**{name}**" if row["primary"] == "true" else name,
            plain(row["metric"]),
            number(row.get("difference", "")),
            interval,
        ]
        body.append([*cells, *([number(row.get("p", ""))] if with_p else []), _of_planned(row)])
    notes = list(dict.fromkeys(row["note"] for row in near if row.get("note")))
    head = ["contrast", "metric", "difference", "interval", *(["p"] if with_p else []), "runs"]
    return [
        f"Paired by {'all seeds' if study.seeds.cross else 'seed'}, at the primary layer, with 95 % "
        "intervals. The primary contrast is in bold. Each interval holds its level alone: of twenty without "
        "a difference, one excludes zero.",
        _table(head, body),
        _list(notes),
        "[contrasts.csv](contrasts.csv) has all layers.",
    ]


def _of_planned(row: Row) -> str:
    """Return the number of pairs of a contrast, as "1 of 6" if some are missing."""
    whole = row.get("planned") in (None, "", row.get("runs"))
    return row.get("runs", "") if whole else f"{row['runs']} of {row['planned']}"


def _search(study: Study, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    body, lines = [], []
    for name in dict.fromkeys(row["condition"] for row in rows):
        mine = [row for row in rows if row["condition"] == name]
        cells = []
        for setting in settings:
            here = [row for row in mine if row["setting"] == setting]
            scores = ("diverged" if row["diverged"] == "true" else number(row["value"]) for row in here)
            text = ", ".join(scores)
            cells.append(f"**{text}**" if here and here[0]["chosen"] == "true" else text)
        body.append([name, *cells])
        if mine[0]["trains_at_no_rate"] == "true":
            lines.append(f"{name} trains at no rate of the search: every one diverged")
        elif any(row["at_edge"] == "true" for row in mine):
            lines.append(
                f"{name}: the best or the chosen rate is at the edge of the grid; a better may lie outside"
            )
    score = plain(study.search.score) if study.search else ""
    return [
        f"The {score} of each seed; the last fifth of the training images is held out, and no test image is "
        "used. The chosen rate is in bold: the smallest within one standard error of the best mean (with one "
        "seed, the best).",
        _table(["condition", *map(number, settings)], body),
        _list(lines),
        "[search.csv](search.csv) has the curves.",
    ]


def _diverged(rows: Sequence[Row]) -> list[str]:
    lost = [row for row in rows if row["status"] == "diverged"]
    return [
        _list(
            f"{row['condition']}, seed {row['seed']} (learning rate {number(row['learning_rate'])}, "
            f"`{row['address']}`): it counts as a run without values"
            for row in lost
        )
    ]


def _drawn(study: Study, rows: Sequence[Row]) -> list[str]:
    drawn = [
        f"**{row['title']}** is not drawn: {row['not_drawn']}"
        if row["not_drawn"]
        else f"![{row['title']}](figures/{row['name']}.png)\n\n**{row['title']}.** {row['caption']} "
        f"([PDF](figures/{row['name']}.pdf), [numbers](figures/{row['name']}.csv))"
        for row in rows
    ]
    equal = "Figures and report show only the runs whose seeds are all equal; the tables above hold all runs."
    return [equal, *drawn] if study.seeds.cross and drawn else drawn


def _made(study: Study, facts: Mapping[str, Any]) -> list[str]:
    configs = {name: flat(msgspec.to_builtins(c.config)) for name, c in study.conditions.items()}
    default = flat(msgspec.to_builtins(Config()))
    # A schedule may be a number or a table, whose keys are then others than the default's.
    changed = {
        name: {key: value for key, value in one.items() if value != default.get(key)}
        for name, one in configs.items()
    }
    first, *others = changed.values()
    shared = {key: value for key, value in first.items() if all(one.get(key) == value for one in others)}
    lines = [f"{key} = {value}" for key, value in shared.items()]
    for name, one in changed.items():
        own = [f"{key} = {value}" for key, value in one.items() if key not in shared]
        lines.append(f"[{name}] {', '.join(own) or 'nothing else'}")
    commit = f"commit `{facts['commit']}`, " if facts["commit"] else ""
    return [
        f"`{facts['command']}`",
        f"fadiag {facts['fadiag']}, {commit}torch {', '.join(facts['torch'])}, {', '.join(facts['devices'])}",
        "Keys of the configuration that differ from their defaults, before the search:",
        "```text\n" + "\n".join(lines) + "\n```",
    ]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
