"""Draw the figures of a report as images, or give the reason why a figure cannot be drawn."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from PIL import Image

from fadiag.errors import FadiagError
from fadiag.figures import FIGURES, Figure, caption, drawable, numbers, small_print, style
from fadiag.figures.base.layers import primary_layer
from fadiag.results.run_labels import conditions_of
from fadiag.results.variables import missing_variables

__all__ = ["Picture", "Pictures", "draw", "not_drawn"]

#: At most so many records of a stream are drawn over training; a panel is not wide enough for more.
_RECORDS = 25
#: Up to so many layers are drawn over training; of a deeper network, the first, the primary and the last one.
_LAYERS = 4
#: With more marks, or more bytes, an image of lines is replaced by one of pixels, which is smaller.
_MARKS = 1000
_BYTES = 120_000
#: With more marks in all figures, a PDF would double the report.
_MARKS_OF_PDF = 8_000
#: Pixels per inch: a figure as wide as a paper's text is then as wide as the page.
_SCALE = 136
_COLORS = 64
#: The report has the small print below each figure, so its style is one without.
_STYLE = "nature"


@dataclass(frozen=True)
class Picture:
    """One figure for the page; ``missing`` is the reason if it cannot be drawn."""

    name: str
    title: str
    caption: str = ""
    small_print: str = ""
    uri: str = ""
    width: int = 0
    height: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Pictures:
    """All figures for the page, and the same in one PDF; None if they have too many marks for one."""

    each: tuple[Picture, ...]
    pdf: bytes | None


def not_drawn(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[str]:
    """Return a line for each figure that lacks a variable.

    Examples
    --------
    >>> from fadiag.figures import find
    >>> not_drawn(xr.DataTree(), [find("overlap_over_training")])
    ['figure overlap_over_training: error_overlap not in the results']
    """
    found = [(figure.name, figure.missing(results)) for figure in figures]
    return [f"figure {name}: {', '.join(gone)} not in the results" for name, gone in found if gone]


def draw(results: xr.DataTree) -> Pictures:
    """Return each figure as an image, or the reason why it cannot be drawn, and all as a PDF."""
    each: list[Picture] = []
    drawn: list[Canvas] = []
    marks = 0
    for figure in drawable(results):
        gone = figure.missing(results)
        if len(gone) == len(figure.needs):
            why = str(missing_variables(results, gone, None))
            each.append(Picture(figure.name, figure.title, missing=why))
            continue
        try:
            kept, note = _lighter(results, figure)
            with style(_STYLE):
                canvas = figure.draw(kept)
                picture, many = _picture(figure, canvas, note)
        except FadiagError as error:
            each.append(Picture(figure.name, figure.title, missing=str(error)))
            continue
        each.append(picture)
        drawn.append(canvas)
        marks += many
    return Pictures(tuple(each), _pdf(drawn) if drawn and marks <= _MARKS_OF_PDF else None)


def _picture(figure: Figure, canvas: Canvas, note: str) -> tuple[Picture, int]:
    if (engine := canvas.get_layout_engine()) is not None:
        engine.execute(canvas)
        canvas.set_layout_engine("none")  # a later drawing would move the panels
    marks = len(numbers(canvas))
    kind, content = "svg+xml", _svg(canvas) if marks <= _MARKS else b""
    if not content or len(content) > _BYTES:
        kind, content = "png", _png(canvas)
    uri = Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
    width, height = (round(_SCALE * inches) for inches in canvas.get_size_inches())
    words = " ".join(filter(None, [caption(canvas), note]))
    picture = Picture(figure.name, figure.title, words, small_print(canvas), uri, width, height)
    return picture, marks


def _svg(canvas: Canvas) -> bytes:
    # Not savefig, which draws everything once more before it writes.
    text = io.StringIO()
    FigureCanvasSVG(canvas).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return text.getvalue().encode()


def _png(canvas: Canvas) -> bytes:
    canvas.dpi = _SCALE
    agg = FigureCanvasAgg(canvas)
    agg.draw()  # type: ignore[no-untyped-call]
    pixels = Image.fromarray(np.asarray(agg.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    pixels.quantize(_COLORS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "png")
    return file.getvalue()


def _pdf(drawn: Iterable[Canvas]) -> bytes:
    file = io.BytesIO()
    with style(_STYLE), PdfPages(file, metadata={"CreationDate": None}) as pages:
        for canvas in drawn:
            FigureCanvasPdf(canvas).print_pdf(pages)  # type: ignore[no-untyped-call]
    return file.getvalue()


def _lighter(results: xr.DataTree, figure: Figure) -> tuple[xr.DataTree, str]:
    """Return what a figure draws of the results, and a sentence on what it leaves out."""
    over_training = figure.name.endswith("over_training")
    primary = primary_layer(results)
    groups, notes = {"/": results.to_dataset()}, dict[str, None]()
    for name, node in results.children.items():
        stream = node.to_dataset()
        held = [v for v in stream.data_vars if str(v).startswith((*figure.needs, *_twins(figure)))]
        others = [v for v in stream.data_vars if "k" in stream[v].attrs][:1]  # holds the number of classes
        groups[f"/{name}"] = kept = stream[list(dict.fromkeys([*held, *others]))]
        if not held:
            continue
        if not over_training:
            # Such figures show one step, and their captions speak of the first too.
            groups[f"/{name}"] = kept.isel(step=_records(kept, 2))
            continue
        if kept.sizes.get("layer", 0) > _LAYERS and _with_values(kept[held]):
            layers = _with_values(kept[held])
            few = [v for v in layers if v in {layers[0], primary, layers[-1]}]
            kept = kept.sel(layer=few)
            notes[f"{len(few)} of {stream.sizes['layer']} layers are drawn."] = None
        if kept.sizes["step"] > _RECORDS:
            kept = kept.isel(step=_records(kept, _RECORDS))
            notes[f"{kept.sizes['step']} of {stream.sizes['step']} records are drawn."] = None
        groups[f"/{name}"] = kept
    return xr.DataTree.from_dict(groups, name=results.name), " ".join(notes)


def _twins(figure: Figure) -> tuple[str, ...]:
    """Return the variables of the exact error that a figure may draw next to its own."""
    return tuple(
        need.replace(f"{role}_", f"{role}_bp_", 1) for need in figure.needs for role in ("error", "modulator")
    )


def _with_values(stream: xr.Dataset) -> list[str]:
    """Return the layers in which a variable has any value."""
    known = np.zeros(stream.sizes["layer"], np.bool_)
    for array in stream.data_vars.values():
        if "layer" in array.dims:
            values = array.transpose("layer", ...).values
            known |= np.isfinite(values).reshape(len(known), -1).any(axis=1)
    return [str(v) for v in stream["layer"].values[known]]


def _records(stream: xr.Dataset, count: int) -> list[int]:
    """Return the places of steps that are evenly spread, and of those that captions speak of.

    These are each run's first and last value, and the last step that all conditions share.
    """
    places = {int(i) for i in np.linspace(0, stream.sizes["step"] - 1, count).round()}
    names = conditions_of(stream) or [str(run) for run in stream["run"].values]
    members = [np.array(names) == name for name in dict.fromkeys(names)]
    for array in stream.data_vars.values():
        values = array.transpose("run", "step", ...).values
        known = np.isfinite(values).reshape(*values.shape[:2], -1).any(axis=-1)
        held = [each for each in (known[own].any(axis=0) for own in members) if each.any()]
        for run in [*known[known.any(axis=1)], *([np.all(held, axis=0)] if held else [])]:
            places |= {int(i) for i in np.flatnonzero(run)[[0, -1]]} if run.any() else set()
    return sorted(places)
