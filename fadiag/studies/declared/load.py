"""Read a `Study` from a TOML file under a profile; nothing in the file is executed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fadiag.analysis import TABLE
from fadiag.errors import ConfigError, InputError
from fadiag.figures import FIGURES, ON_REQUEST, theme
from fadiag.studies.declared.study import Condition, Study
from fadiag.studies.declared.tables import FigureTable, StudyTable, TheoremTable
from fadiag.training import Config, make_config
from fadiag.training.recording import LOGGED
from fadiag.training.tables import check_keys, convert_table, copy_table, near_names, read_toml, set_key

__all__ = ["PLAIN_PROFILE", "load_study"]

#: The profile of the file as it is.
PLAIN_PROFILE = "cpu"
#: Keys of a condition that are not of its configuration.
_OWN_KEYS = ("control", "search", "against")
#: Keys of a configuration that a study sets itself, and its own keys for them.
_SET_BY_STUDY = {"condition": "the name of each condition", "seeds": "the table [seeds] of the study"}
#: Keys of a configuration that a search sets.
_SEARCHED = ("optimizer.learning_rate", "optimizer.rest.learning_rate")


def load_study(path: str | Path, *, profile: str = PLAIN_PROFILE, overrides: Iterable[str] = ()) -> Study:
    """Read a study from a TOML file.

    Parameters
    ----------
    path : str or Path
    profile : str
        A profile that the file declares, or "cpu": the file as it is.
    overrides : iterable of str
        ``key=value`` with a dotted key of the file, such as ``base.train.epochs=1``. They come last.

    Returns
    -------
    Study

    Raises
    ------
    ConfigError
        The file is missing or is not TOML, a key or name is unknown (the error names near ones), a value is
        wrong, or a seed is both searched with and reported.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "small.toml"
    >>> _ = path.write_text('''
    ... name = "small"
    ... question = "Is FA's test accuracy lower than BP's?"
    ... primary = { metric = "test_accuracy", contrast = ["fa", "bp"], tail = "lower" }
    ... conditions = { bp = { rule = "bp" }, fa = { rule = "fa" } }
    ... grid = { "model.weight_scale" = [1.0, 0.1] }
    ... seeds = { reported = [0, 1] }
    ... profiles.ci.seeds.reported = [0]
    ... ''')
    >>> study = load_study(path, profile="ci")
    >>> list(study.conditions)
    ['bp weight_scale=1', 'bp weight_scale=0.1', 'fa weight_scale=1', 'fa weight_scale=0.1']
    >>> study.primary.contrast, study.seeds.reported
    (('fa weight_scale=1', 'bp weight_scale=1'), (0,))
    """
    source = f"study {path}"
    raw = read_toml(path, "study")
    profiles = raw.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
        raise ConfigError(f"{source}: 'profiles' is no table of tables, as in [profiles.ci]")
    if profile not in profiles and profile != PLAIN_PROFILE:
        near = near_names(profile, "", {PLAIN_PROFILE: 0, **profiles})
        raise ConfigError(f"{source} has no profile {profile!r}; {near}")
    for name, changes in profiles.items():
        check_keys(changes, StudyTable, f"profiles.{name}.", source)
    # All of them, since a misspelled key shall not wait for its profile.
    studies = {name: _under(name, raw, (), source) for name in {PLAIN_PROFILE: 0, **profiles}}
    return _under(profile, raw, overrides, source) if overrides else studies[profile]


def _under(profile: str, raw: Mapping[str, Any], overrides: Iterable[str], source: str) -> Study:
    """Return the study under one profile."""
    merged = _merged(raw, raw.get("profiles", {}).get(profile, {}))
    for override in overrides:
        set_key(merged, override)
    if merged.get("search") is False:  # a profile without the file's search
        del merged["search"]
    return _study(convert_table(merged, StudyTable, source), profile, source)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested tables in one; a value of the second replaces one of the first."""
    merged = copy_table(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _study(table: StudyTable, profile: str, source: str) -> Study:
    if not table.conditions:
        raise ConfigError(f"{source} has no conditions; add tables such as [conditions.bp]")
    for name in table.only or ():
        if name not in table.conditions:
            raise ConfigError(f"{source}: 'only' names {name!r}; {near_names(name, '', table.conditions)}")
    metrics = [metric.name for metric in TABLE]
    for key, names, known in (
        ("primary.metric", (table.primary.metric,), [*metrics, *LOGGED]),
        ("metrics", table.metrics or (), [*metrics, *LOGGED]),
        ("figures.names", table.figures.names or (), [figure.name for figure in (*FIGURES, *ON_REQUEST)]),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(f"{source}: {key!r} names {name!r}; {near_names(name, '', known)}")
    _check_theorems(table, [*metrics, *LOGGED], source)
    declared = [name for name in table.conditions if table.only is None or name in table.only]
    axes = dict(_axes(table.grid, "", source))
    search = table.search
    if search is not None and (search.rates is None) == (search.factors is None):
        raise ConfigError(f"{source}: 'search' has both or neither of 'rates' and 'factors'; give one")
    taken = {} if search is None else search.taken_from
    left_out = set(table.conditions) - set(declared)
    taken = {name: source_of for name, source_of in taken.items() if name not in left_out}
    for pair in taken.items():
        for name in pair:
            if name not in declared:
                near = near_names(name, "", declared)
                raise ConfigError(f"{source}: 'search.from' names the condition {name!r}; {near}")
        if pair[1] in taken:
            raise ConfigError(
                f"{source}: 'search.from' gives {pair[0]!r} the rate of {pair[1]!r}, which has none of its "
                f"own; name {taken[pair[1]]!r} there"
            )
    conditions: dict[str, Condition] = {}
    for name in declared:
        for values in product(*axes.values()):
            one = _condition(table, name, dict(zip(axes, values, strict=True)), source)
            if one.name in conditions:
                raise ConfigError(f"{source}: 'grid' makes {one.name!r} twice; give each value once")
            conditions[one.name] = one
    if any(one.searched or one.rate_from is not None for one in conditions.values()):
        for key in _SEARCHED:
            if key in axes:
                raise ConfigError(
                    f"{source}: 'grid.{key}' has values that the search replaces; give its rates in "
                    "'search', or drop 'search'"
                )
    _check_look(table.figures, [*conditions, *table.conditions], source)
    first = {key: values[0] for key, values in axes.items()}
    # A condition's name alone means its place at the first value of each key of the grid.
    contrast = tuple(
        _full_name(name, first) if name in declared and name not in conditions else name
        for name in table.primary.contrast
    )
    primary = type(table.primary)(
        metric=table.primary.metric,
        layer=table.primary.layer,
        contrast=(contrast[0], contrast[1]),
        tail=table.primary.tail,
    )
    return Study(
        table.name,
        table.question,
        primary,
        conditions,
        table.seeds,
        search,
        table.metrics,
        table.figures,
        table.device,
        profile,
        tuple(_theorems(table.theorems, conditions)),
    )


def _check_theorems(table: StudyTable, measured: Sequence[str], source: str) -> None:
    for theorem in table.theorems:
        for named in (theorem.metric, theorem.at_least, theorem.at_most):
            # A null's numbers bear the name of their metric and more.
            if isinstance(named, str) and not any(f"{named}_".startswith(f"{one}_") for one in measured):
                raise ConfigError(f"{source}: 'theorems' names {named!r}; {near_names(named, '', measured)}")
        for name in theorem.conditions or ():
            if name not in table.conditions:
                near = near_names(name, "", table.conditions)
                raise ConfigError(f"{source}: 'theorems' names the condition {name!r}; {near}")
        if theorem.at_least is None and theorem.at_most is None:
            raise ConfigError(
                f"{source}: the theorem {theorem.law!r} has no bound; give it at_least or at_most"
            )


def _theorems(
    declared: Iterable[TheoremTable], conditions: Mapping[str, Condition]
) -> Iterator[TheoremTable]:
    """Yield the theorems with the full names of their conditions, and none whose conditions do not run."""
    for theorem in declared:
        names = [
            name
            for name, one in conditions.items()
            if theorem.conditions is None or one.declared_as in theorem.conditions
        ]
        if names:
            yield replace(theorem, conditions=tuple(names))


def _check_look(look: FigureTable, known: Iterable[str], source: str) -> None:
    known = list(known)
    for key, names in (("labels", look.labels), ("colors", look.colors), ("order", look.order)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{source}: 'figures.{key}' names {name!r}; {near_names(name, '', known)}")
    try:
        theme(labels=look.labels, colors=look.colors, order=look.order)
    except InputError as error:
        raise ConfigError(f"{source}: {error}") from None


def _axes(grid: Mapping[str, Any], above: str, source: str) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the dotted keys of the grid with their values."""
    for key, value in grid.items():
        if isinstance(value, Mapping):
            yield from _axes(value, f"{above}{key}.", source)
        elif isinstance(value, list) and value:
            yield above + key, value
        else:
            raise ConfigError(f"{source}: 'grid.{above}{key}' is {value!r}; give a list of values")


def _condition(table: StudyTable, declared: str, place: Mapping[str, Any], source: str) -> Condition:
    where = f"{source}, condition {declared!r}"
    changes = table.conditions[declared]
    check_keys(table.base, Config, "", f"{source}, base")
    check_keys(changes, Config, "", where, also=_OWN_KEYS)
    own = {key: changes[key] for key in _OWN_KEYS if key in changes}
    for key in ("control", "search"):
        if not isinstance(own.get(key, False), bool):
            raise ConfigError(f"{where}: {key!r} is {own[key]!r}; it is true or false")
    against = own.get("against")
    others = [name for name in table.conditions if name != declared]
    if against is not None and against not in others:
        raise ConfigError(f"{where}: 'against' names {against!r}; {near_names(str(against), '', others)}")
    merged = _merged(table.base, {key: value for key, value in changes.items() if key not in own})
    for key, value in place.items():
        _put(merged, key, value, source)
    for key, instead in _SET_BY_STUDY.items():
        if key in merged:
            raise ConfigError(f"{where}: {key!r} is not a key of a study's base or condition; use {instead}")
    searched = table.search is not None and own.get("search", True)
    if not searched and table.search is not None and declared in table.search.taken_from:
        raise ConfigError(f"{where}: it has 'search = false' and a rate in 'search.from'; drop one of them")
    rate_from = table.search.taken_from.get(declared) if table.search is not None else None
    return Condition(
        name=_full_name(declared, place),
        config=make_config(merged, source=where),
        declared_as=declared,
        place=place,
        control=own.get("control", False),
        searched=searched and rate_from is None,
        rate_from=None if rate_from is None else _full_name(rate_from, place),
        against=against,
    )


def _put(table: dict[str, Any], key: str, value: Any, source: str) -> None:
    *above, last = key.split(".")
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"{source}: grid key {key!r} goes through {part!r}, which is a value, not a table"
            )
    table[last] = value


def _full_name(declared: str, place: Mapping[str, Any]) -> str:
    """Return the name of a condition with its place in the grid, as "fa weight_scale=0.1"."""
    lasts = [key.rpartition(".")[2] for key in place]
    words = [
        f"{last if lasts.count(last) == 1 else key}={str(value).removesuffix('.0')}"
        for (key, value), last in zip(place.items(), lasts, strict=True)
    ]
    return " ".join([declared, *words])
