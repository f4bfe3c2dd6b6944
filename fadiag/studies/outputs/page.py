"""Write the page of a study in plain words; its numbers and captions come from the CSV tables next to it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fadiag.studies.declared.declaration import flat
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.conditions import conditions_of_study
from fadiag.studies.outputs.limits import limits_of
from fadiag.studies.outputs.matched import matched_section
from fadiag.studies.outputs.rows import read_rows
from fadiag.studies.outputs.text import list_of, number, plain, table_of
from fadiag.studies.outputs.theorems import theorem_section
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
        for name in ("table", "conditions", "contrasts", "matched", "search", "theorems", "figures")
    }
    amendments = _declaration(folder)["amendments"]
    sections = {
        "": [f"# {study.name}", study.question],
        "Answer": [f"**{answer_of(folder)}**"],
        "Declared before the first run": [] if amendments else _declared(study),
        "Declared, and changed later": [*_declared(study), *_changed(amendments)] if amendments else [],
        "Conditions": conditions_of_study(study, tables["conditions"], tables["table"]),
        "Differences": _differences(study, tables["contrasts"]),
        "At equal training loss": matched_section(tables["matched"]),
        "Learning rates": _search(study, tables["search"]),
        "Theorems": theorem_section(tables["theorems"]),
        "Runs that diverged": _diverged(tables["table"]),
        "What cannot be concluded": [list_of(limits_of(study, tables))],
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
    return [
        list_of(lines),
        "All other numbers are secondary. [study.json](study.json) holds the declaration.",
    ]


def _changed(amendments: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in amendments:
        of = f"{', '.join(one['conditions'])}: " if one["conditions"] else ""
        was, now = ("nothing" if one[key] is None else one[key] for key in ("before", "after"))
        lines.append(f"{of}`{one['key']}` was {was}, now {now} ({one['date']})")
    return ["Changed after the first declaration; the list above holds the new values:", list_of(lines)]


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
        table_of(head, body),
        list_of(notes),
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
        table_of(["condition", *map(number, settings)], body),
        list_of(lines),
        "[search.csv](search.csv) has the curves.",
    ]


def _diverged(rows: Sequence[Row]) -> list[str]:
    lost = [row for row in rows if row["status"] == "diverged"]
    return [
        list_of(
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
