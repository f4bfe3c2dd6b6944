"""The arrays of a store that the attributes of a variable name."""

import re
from functools import cache, partial

import numpy as np

from fadiag.store import open_run

NAN = float("nan")
OWN = "the signals' own columns"
REF = re.compile(
    r"(?:(?P<above>above\*|above|below)/)?(?:(?P<when>first|recent)/)?(?:(?P<other>state|static)/)?(?P<name>\w+)"
)


class Store:
    """A recorded run: arrays by stream and layer, layers in forward order."""

    def __init__(self, path):
        self.tree = open_run(path).load()
        self.reordered = {}
        self.layers = {
            stream: sorted((n.attrs["name"] for n in node.children.values()), key=partial(self.order, stream))
            for stream, node in self.tree.children.items()
        }

    @cache  # noqa: B019 - lives as long as the module's fixture
    def node(self, stream, layer):
        return next(n for n in self.tree[stream].children.values() if n.attrs["name"] == layer)

    def order(self, stream, layer):
        return self.node(stream, layer).attrs.get("order", 0)

    def kind(self, stream, layer, above=0):
        """Return the feedback kind of a layer, or of the one above or below; "" where there is none."""
        place = self.layers[stream].index(layer) + above
        inside = 0 <= place < len(self.layers[stream])
        return self.node(stream, self.layers[stream][place]).attrs["feedback_kind"] if inside else ""

    @cache  # noqa: B019
    def record(self, stream, layer, name, step):
        """Return the record of an array at a step, its names of axes and its attributes; None without one."""
        array = self.node(stream, layer).get(name) if layer in self.layers[stream] else None
        if array is None or "step" not in array.dims:
            return None if array is None else (array.values, array.dims, array.attrs)
        values = array.sel(step=step).values if step in array["step"].values else np.full(1, NAN)
        if np.isnan(values).all() and "nan_means" not in array.attrs:
            return None
        if array.dims[1:2] == ("sample",):
            values = values[: int(self.tree[stream]["rows_valid"].sel(step=step))]
        return values, array.dims[1:], array.attrs

    def read(self, stream, layer, ref, step):
        """Return the records that a reference of the attribute ``signals`` names."""
        found = REF.fullmatch(ref)
        own = self.layers[stream]
        at = own.index(layer)
        layers = {
            "above*": own[at + 1 :],
            "above": own[at + 1 : at + 2],
            "below": own[at - 1 : at] if at else [],
        }
        stream = found["other"] or stream
        steps = list(self.tree[stream]["step"].values) if stream != "static" else []
        when = [step]
        if found["when"] == "first":
            when = steps[:1]
        if found["when"] == "recent":
            last = steps.index(step) + 1
            when = steps[last - 10 : last] if last >= 10 else []
        named = layers.get(found["above"], [layer])
        return [self.record(stream, name, found["name"], s) for name in named for s in when] or [None]


def unfolded(record, how):
    """Lay a record out as a matrix, as the attribute ``matrix`` says."""
    values, dims, _ = record
    values = values.astype(np.float64)
    if how.startswith("one row per sample and position") and dims[0] == "sample" and values.ndim > 2:
        values = np.moveaxis(values, dims.index(next(d for d in dims if d.endswith("channel"))), -1)
        return values.reshape(-1, values.shape[-1])
    return values.reshape(len(values), -1)


def _is_factor(record):
    return record[2].get("reduction") == "factor"


class Place:
    """What the attributes of a variable name, at one layer and step."""

    def __init__(self, store, stream, layer, step, attrs):
        self.store, self.layer, self.step, self.attrs = store, layer, step, attrs
        self.read = lambda ref: store.read(stream, layer, ref, step)
        self.records = [self.read(ref) for ref in attrs["signals"].split(", ")]
        instead = attrs.get("read_instead", "").split(", ")
        self.instead = [found[0][0] for name in instead if name and (found := self.read(name)) != [None]]
        too = [name for name in attrs.get("read_too", "").split(", ") if name]
        self.too = {name: found[0][0] for name in too if (found := self.read(name)) != [None]}
        self.is_there = all(r is not None for found in self.records for r in found)
        self.draws_of = [self.read(name)[0] for name in attrs.get("draws_of", "").split(", ") if name]
        kinds = {r[2].get("factor_side", "rows") for f in self.records for r in f if r and _is_factor(r)}
        needs = attrs.get("needs", "").partition(",")[0]
        if (needs == "single samples" and "rows" in kinds and not self.instead) or (needs == OWN and kinds):
            self.is_there = False
        self.is_factor = self.is_there and self.records[0][0][1][0].startswith("factor")

    def matrix(self, which=0):
        return unfolded(self.records[which][0], self.attrs.get("matrix", ""))

    @property
    def matrices(self):
        return [unfolded(record, "") for found in self.records for record in found]

    @property
    def rows(self):
        """The rows of the matrix, less their mean if the attribute ``centered`` says so."""
        matrix = self.matrix()
        if not self.attrs.get("centered"):
            return matrix
        return matrix[1:] if self.is_factor else matrix - matrix.mean(0)

    @property
    def s(self):
        return self.instead[0] if self.instead else np.linalg.svd(self.rows, compute_uv=False)

    @property
    def vectors(self):
        return [self.records[i][0][0].astype(np.float64).ravel() for i in range(len(self.records))]

    @property
    def cosines(self):
        """The cosine of each sample; it knows no unfolding."""
        assert not {"unfolding", "centered"} & set(self.attrs)
        if self.instead:
            assert self.instead[0].dtype == np.float64
            return self.instead[0]
        x, y = (unfolded(self.records[i][0], "") for i in (0, 1))
        with np.errstate(invalid="ignore"):
            return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)

    @property
    def bases(self):
        """Leading right directions of both; those of zeros are NaN."""
        k = min(self.attrs["k"], *self.matrix().shape)
        found = []
        for _, s, v in (np.linalg.svd(self.matrix(i)) for i in (0, 1)):
            found.append(v[:k].T if s[0] > 0 else np.full((v.shape[1], k), NAN))
        return found

    @property
    def shape(self):
        """Rows and columns of the matrix, of a factor those of what was factored."""
        (*_, attrs), (rows, columns) = self.records[0][0], self.matrix().shape
        if attrs.get("reduction") != "factor":
            return rows, columns
        return (attrs["rows"] if self.is_factor else rows), attrs["columns"]
