"""List all metrics in one table, and choose metrics by name.

Every measured variable of the results is a row of the table, or a null or mark of a row. To measure something
else, pass your own `Metric` to ``analyze(metrics=[...])``; there is no registry.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from fadiag.analysis.metrics.alignment import ALIGNMENT_METRICS
from fadiag.analysis.metrics.conservation import CONSERVATION_METRICS
from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.paths import PATH_METRICS
from fadiag.analysis.metrics.rank import RANK_METRICS
from fadiag.analysis.metrics.trajectory import TRAJECTORY_METRICS
from fadiag.analysis.metrics.weights import WEIGHT_METRICS
from fadiag.errors import InputError

__all__ = ["TABLE", "choose"]

TABLE: tuple[Metric, ...] = (
    *RANK_METRICS,
    *ALIGNMENT_METRICS,
    *WEIGHT_METRICS,
    *CONSERVATION_METRICS,
    *PATH_METRICS,
    *TRAJECTORY_METRICS,
)


def choose(metrics: Iterable[str | Metric] | None, more: tuple[Metric, ...] = ()) -> tuple[Metric, ...]:
    """Return the chosen metrics, from names in the table, `Metric` objects, or None for the whole table.

    `more` are metrics of what these runs recorded, which extend the table.

    Raises
    ------
    InputError
        A name is not in the table. The error lists similar names.

    Examples
    --------
    >>> [m.signals for m in choose(["error_cosine"])]
    [('error', 'error_bp')]
    """
    table = (*TABLE, *more)
    if metrics is None:
        return table
    if isinstance(metrics, (str, Metric)):
        metrics = [metrics]
    by_name = {metric.name: metric for metric in table}
    chosen: list[Metric] = []
    for asked in metrics:
        if isinstance(asked, Metric):
            chosen.append(asked)
        elif asked in by_name:
            chosen.append(by_name[asked])
        else:
            near = get_close_matches(asked, by_name, n=3, cutoff=0.4)
            near = near or [name for name in by_name if len(asked) > 2 and asked in name][:3]
            hint = (
                f"; near: {', '.join(near)}"
                if near
                else f"; the table has {len(by_name)} metrics, see fadiag.analysis.TABLE"
            )
            raise InputError(f"no metric {asked!r}{hint}")
    if not chosen:
        raise InputError("metrics is empty; leave it out to measure all of them")
    return tuple(dict.fromkeys(chosen))
