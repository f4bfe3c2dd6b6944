"""Define the tables of a study file, which declares all of a study before anything runs."""

from typing import Annotated, Any, Literal

import msgspec

from fadiag.training.config.bounds import Positive, Seed

__all__ = ["FigureTable", "PrimaryTable", "SearchTable", "SeedTable", "StudyTable", "TheoremTable"]

_Seeds = Annotated[tuple[Seed, ...], msgspec.Meta(min_length=1)]
_Rates = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]


class PrimaryTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The one number that answers the question; all else that a study shows is secondary.

    Attributes
    ----------
    metric : str
        A metric of `fadiag.analysis.TABLE`, or a logged value such as "test_accuracy".
    layer : str
        "first", "last_hidden" or the name of a layer. A logged value has no layer.
    contrast : (str, str)
        The condition, and the baseline that it is compared with.
    tail : {"lower", "upper", "both"}
        The side on which the difference is expected.

    Examples
    --------
    >>> PrimaryTable(metric="error_stable_rank_raw", contrast=("fa", "bp")).layer
    'last_hidden'
    """

    metric: str
    layer: str = "last_hidden"
    contrast: tuple[str, str]
    tail: Literal["lower", "upper", "both"] = "both"


class SeedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The seeds that are reported.

    Attributes
    ----------
    reported : list of int
        Each sets the first weights, the order of the data and the feedback of one run of every condition.
    cross : list of {"init", "data", "feedback"}
        Seeds to cross: each of the first with each of the second, and of the third. A seed that is not named
        equals the first one that is.

    Examples
    --------
    >>> SeedTable(reported=(0, 1, 2)).cross
    ()
    """

    reported: _Seeds
    cross: tuple[Literal["init", "data", "feedback"], ...] = ()


class SearchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The search of a learning rate, with the same budget for every condition.

    Attributes
    ----------
    rates : list of float, optional
        Values of ``optimizer.learning_rate``. The rate of ``optimizer.rest`` is scaled by the same factor.
    factors : list of float, optional
        In place of ``rates``: factors on the rates that a condition declares.
    seeds : list of int
        None of them may be reported.
    score : {"validation_accuracy", "train_accuracy"}
        What is highest at the best rate, after the last step. The last fifth of the training images is held
        out for it. No test image is used.
    from : mapping of str to str
        A condition, and the condition whose rate it takes in place of a search of its own.

    Examples
    --------
    >>> SearchTable(rates=(0.01, 0.03), seeds=(100,)).score
    'validation_accuracy'
    """

    rates: _Rates | None = None
    factors: _Rates | None = None
    seeds: _Seeds
    score: Literal["validation_accuracy", "train_accuracy"] = "validation_accuracy"
    taken_from: dict[str, str] = msgspec.field(default_factory=dict, name="from")


class FigureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How conditions look in figures, and which figures are drawn.

    Attributes
    ----------
    names : list of str, optional
        Names in `fadiag.figures.FIGURES`; all by default.
    labels, colors : mapping of str to str
        The text for readers and the color of a condition.
    order : list of str
        The first conditions, in order; the others follow as the study declares them.

    Examples
    --------
    >>> FigureTable(names=("rank_gap",)).names
    ('rank_gap',)
    """

    names: tuple[str, ...] | None = None
    labels: dict[str, str] = {}
    colors: dict[str, str] = {}
    order: tuple[str, ...] = ()


class TheoremTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law that the runs must keep whatever they learn; a study that breaks it measures something wrong.

    Attributes
    ----------
    law : str
        The law in one sentence.
    metric : str
        A variable of the results: a metric, or a number of its null such as
        ``error_effective_rank_raw_gate_null_p``.
    conditions : list of str, optional
        The conditions that the law is about; all by default.
    layers : str
        A pattern of layers' names, such as ``"fc*"``.
    step : {"all", "first", "last"}
        The records of each run that are held to the law.
    average : bool
        Hold the mean over runs, layers and records to the law, not each value.
    at_least, at_most : float or str, optional
        The bounds, or the variables that hold them. A law has one of them or both.
    tolerance : float
        How far outside a value may be, as a share of the bound's size, or of 1 where that is larger.

    Examples
    --------
    >>> TheoremTable(law="A rank is at least one.", metric="error_stable_rank_raw", at_least=1).layers
    '*'
    """

    law: str
    metric: str
    conditions: tuple[str, ...] | None = None
    layers: str = "*"
    step: Literal["all", "first", "last"] = "all"
    average: bool = False
    at_least: float | str | None = None
    at_most: float | str | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 1e-6


class StudyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A study file.

    Attributes
    ----------
    name, question : str
    primary : PrimaryTable
    metrics : list of str, optional
        Other metrics of the tables, at the primary layer; those that the figures draw by default.
    base : table
        Keys of a run's configuration (`fadiag.training.Config`) that all conditions share.
    conditions : table of tables
        What each condition changes. Three more keys are its own. ``control = true`` keeps it out of the
        primary contrast, and ``search = false`` keeps the rate that it declares. ``against = "NAME"`` names
        the condition that it is compared with, in place of the baseline of the primary contrast.
    only : list of str, optional
        Run only these conditions.
    grid : table
        Keys of a configuration, each with a list of values. Every condition is crossed with them.
    seeds : SeedTable
    search : SearchTable, optional
    theorems : list of TheoremTable
    figures : FigureTable
    device : {"cpu", "cuda", "auto"}
    profiles : table of tables
        What each profile changes of all above.

    Examples
    --------
    >>> primary = PrimaryTable(metric="test_accuracy", contrast=("fa", "bp"))
    >>> conditions = {"bp": {"rule": "bp"}, "fa": {}}
    >>> StudyTable(
    ...     name="s", question="?", primary=primary, conditions=conditions, seeds=SeedTable(reported=(0,))
    ... ).device
    'cpu'
    """

    name: str
    question: str
    primary: PrimaryTable
    metrics: tuple[str, ...] | None = None
    base: dict[str, Any] = {}
    conditions: dict[str, dict[str, Any]]
    only: tuple[str, ...] | None = None
    grid: dict[str, Any] = {}
    seeds: SeedTable
    search: SearchTable | None = None
    theorems: tuple[TheoremTable, ...] = ()
    figures: FigureTable = FigureTable()
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    profiles: dict[str, dict[str, Any]] = {}
