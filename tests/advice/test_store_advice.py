"""The advice of fadiag.store."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from fadiag.capture import Recorder, record_arrays
from fadiag.store import ArraySpec, RunWriter, check_scalar, compact, export_netcdf, open_run, verify_run
from fadiag.store.write.recording import Recording
from tests.advice.advice import Table, extras
from tests.store.runs import SPEC, record, values

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


@contextmanager
def writing(at: Path, **options) -> Iterator[RunWriter]:
    """Write a run with the stream "s" and its signal a/x of (6, 3)."""
    with RunWriter(at / "run.zarr", manifest={}, **options) as writer:
        writer.declare_stream("s", attrs={"kind": "probe"})
        writer.declare("s", "a", "x", SPEC)
        yield writer


def declared(at: Path, spec: ArraySpec, *, signal: str = "y", layer: str = "a", stream: str = "s") -> None:
    with writing(at) as writer:
        writer.declare(stream, layer, signal, spec)


def appended(at: Path, step: object = 0, extra: dict | None = None, **given) -> None:
    with writing(at) as writer:
        writer.append("s", step, {("a", name): array for name, array in given.items()}, extra=extra)


# What an array and a name may be.

ADVICE.row(
    "differ in length; name each axis once",
    lambda at: ArraySpec(("out",), (2, 3), "float32"),
    lambda at: declared(at, ArraySpec(("out", "in"), (3, 2), "float32")),
)
ADVICE.row(
    "give each a separate name, and leave out 'step', which the store adds",
    lambda at: ArraySpec(("step", "out"), (2, 3), "float32"),
    lambda at: declared(at, ArraySpec(("out",), (3,), "float32")),
)
ADVICE.row(
    "cannot be stored; use one of",
    lambda at: ArraySpec(("out",), (2,), "complex64"),
    lambda at: declared(at, ArraySpec(("out",), (3,), "float32")),
)
ADVICE.row(
    "use letters, digits and underscores, a letter first",
    lambda at: declared(at, SPEC, signal="1/x"),
    lambda at: declared(at, SPEC, signal="x_1"),
)
ADVICE.row(
    "is a coordinate of every stream; give it another",
    lambda at: check_scalar("epoch"),
    lambda at: appended(at, extra={check_scalar("epochs"): 1.0}, x=values(0)),
)
ADVICE.row(
    "is a coordinate or a dimension; give it another name",
    lambda at: declared(at, SPEC, signal="out"),
    lambda at: declared(at, SPEC, signal="output"),
)
ADVICE.row(
    "cannot be a stream; give it another name",
    lambda at: RunWriter(at / "run.zarr", manifest={}).declare_stream("static", attrs={}),
    lambda at: RunWriter(at / "run.zarr", manifest={}).declare_stream("fixed", attrs={}),
)
ADVICE.row(
    "give the number of records, at least 1",
    lambda at: RunWriter(at / "run.zarr", manifest={}).declare_stream("s", attrs={}, planned=0),
    lambda at: RunWriter(at / "run.zarr", manifest={}).declare_stream("s", attrs={}, planned=1),
)
ADVICE.row(
    "give it another name",
    lambda at: declared(at, ArraySpec(("out",), (5,), "float32")),
    lambda at: declared(at, ArraySpec(("output",), (5,), "float32")),
)


@ADVICE.story("is one number; make it an attribute")
def _(at, provoked):
    with RunWriter(at / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        with provoked():
            writer.put_static("a", "scale", np.array(2.0), dims=())
        writer.set_attrs("s", {"scale": 2.0})
    assert RunWriter(at / "run.zarr", manifest={}, resume=True).attrs("s")["scale"] == 2.0


@ADVICE.story("has the name of a scalar of stream {stream}; rename the scalar")
def _(at, provoked):
    for scalar in ("a", "a_value"):
        with RunWriter(at / f"{scalar}.zarr", manifest={}) as writer:
            writer.declare_stream("s", attrs={})
            writer.append("s", 0, {}, extra={scalar: 1.0})
            if scalar == "a":
                with provoked():
                    writer.declare("s", "a", "x", SPEC)
            else:
                writer.declare("s", "a", "x", SPEC)


@ADVICE.story("is declared twice; declare it once")
def _(at, provoked):
    with writing(at) as writer:
        with provoked():
            writer.declare("s", "a", "x", SPEC)
        writer.append("s", 0, {("a", "x"): values(0)})


@ADVICE.story("is a layer; give the signal another name")
def _(at, provoked):
    with writing(at) as writer:
        with provoked():
            writer.declare("s", "", "a", SPEC)
        writer.declare("s", "", "a_of_all", SPEC)


@ADVICE.story("is not in the store; declare it before setting its attributes")
def _(at, provoked):
    with writing(at) as writer:
        with provoked():
            writer.set_attrs("s/b", {"order": 1})
        writer.declare("s", "b", "x", SPEC)
        writer.set_attrs("s/b", {"order": 1})


# What a record may hold.


@ADVICE.story("was not declared; declare it before appending to it")
def _(at, provoked):
    with writing(at) as writer:
        with provoked():
            writer.append("s", 0, {("b", "x"): values(0)})
        writer.declare("s", "b", "x", SPEC)
        writer.append("s", 0, {("b", "x"): values(0)})


ADVICE.row(
    "give it as declared",
    lambda at: appended(at, x=values(0).astype("float64")),
    lambda at: appended(at, x=values(0)),
)


@ADVICE.story("give one number")
def _(at, provoked):
    with writing(at) as writer:
        writer.declare("s", "a", "y", SPEC)
        with provoked():
            writer.append("s", 0, {("a", "x"): values(0), ("a", "y"): values(0)[:4]})
        writer.append("s", 0, {("a", "x"): values(0)[:4], ("a", "y"): values(0)[:4]})


@ADVICE.story("to go back to a checkpoint open the store with resume_from={number}")
def _(at, provoked):
    with writing(at) as writer:
        writer.append("s", 5, {("a", "x"): values(0)})
        with provoked():
            writer.append("s", 3, {("a", "x"): values(0)})
    with writing(at, resume_from=3) as writer:
        writer.append("s", 3, {("a", "x"): values(0)})
    assert list(open_run(at / "run.zarr")["s"]["step"].values) == [3]


@ADVICE.story("give it in values, not in extra")
def _(at, provoked):
    with RunWriter(at / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "", "losses", ArraySpec(("out",), (2,), "float64"))
        with provoked():
            writer.append("s", 0, {}, extra={"losses": 1.0})
        writer.append("s", 0, {("", "losses"): np.ones(2)})


ADVICE.row(
    "give a number (tensor.item()), not {shown}",
    lambda at: appended(at, extra={"loss": "low"}),
    lambda at: appended(at, extra={"loss": np.float32(0.5).item()}),
)
ADVICE.row(
    "give a whole number, 0 or more", lambda at: appended(at, step=-1), lambda at: appended(at, step=0)
)
ADVICE.row(
    "is not plain JSON: {error}; convert it with float(), int() or str()",
    lambda at: RunWriter(at / "run.zarr", manifest={"meta": {"lr": np.float32(1), "at": Path("x")}}),
    lambda at: RunWriter(
        at / "run.zarr", manifest={"meta": {"lr": float(np.float32(1)), "at": str(Path("x"))}}
    ),
)
_LATIN = os.fsdecode("Zürich".encode("latin-1"))
ADVICE.row(
    "decode it with the encoding that it was written in, or take repr() of it",
    lambda at: RunWriter(at / "run.zarr", manifest={"meta": {"data": _LATIN}}),
    lambda at: RunWriter(at / "run.zarr", manifest={"meta": {"data": os.fsencode(_LATIN).decode("latin-1")}}),
    lambda at: RunWriter(at / "run.zarr", manifest={"meta": {"data": repr(_LATIN)}}),
)


# The store on its disk.


@ADVICE.story("exists; go on in it with RunWriter(resume=True), or take another path")
def _(at, provoked):
    record(at / "run.zarr", 2)
    with provoked():
        RunWriter(at / "run.zarr", manifest={})
    RunWriter(at / "run.zarr", manifest={}, resume=True).close()
    RunWriter(at / "another.zarr", manifest={}).close()


@ADVICE.story(
    "go on in it with if_exists='resume' (of RunWriter: resume=True; record_arrays needs another path)"
)
def _(at, provoked):
    def recorder(**options):
        torch.manual_seed(0)
        return Recorder(torch.nn.Linear(3, 2), at / "run.zarr", every=1, **options)

    full = mock.patch.object(Recording, "write", side_effect=OSError(errno.ENOSPC, "No space left"))
    with provoked(), recorder() as failing, full:
        failing.step()
        failing._session._writer.flush()
    recorder(if_exists="resume").close()
    RunWriter(at / "run.zarr", manifest={}, resume=True).close()
    with record_arrays(at / "another.zarr", layers=["out"]) as arrays:
        arrays(0, {"out": {"error": np.ones((4, 3))}})


@ADVICE.story("is closed; {RESUME}")
def _(at, provoked):
    with writing(at) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
    with provoked():
        writer.append("s", 1, {("a", "x"): values(1)})
    with writing(at, resume=True) as writer:
        writer.append("s", 1, {("a", "x"): values(1)})


@ADVICE.story("is being written by another recorder; wait for it, stop it, or take another path")
def _(at, provoked):
    with writing(at) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
        with provoked():
            RunWriter(at / "run.zarr", manifest={}, resume=True)
        RunWriter(at / "another.zarr", manifest={}).close()
    RunWriter(at / "run.zarr", manifest={}, resume=True).close()


@ADVICE.story("was compacted and is sealed; resume the store it was made from")
def _(at, provoked):
    record(at / "run.zarr", 2)
    compact(at / "run.zarr", at / "sealed.zarr")
    with provoked():
        RunWriter(at / "sealed.zarr", manifest={}, resume=True)
    RunWriter(at / "run.zarr", manifest={}, resume=True).close()


@ADVICE.story("is a file; take a folder")
def _(at, provoked):
    (at / "file").write_text("")
    with provoked():
        RunWriter(at / "file/run.zarr", manifest={})
    RunWriter(at / "folder/run.zarr", manifest={}).close()


@ADVICE.story("take a folder that can be written")
def _(at, provoked):
    with provoked(), mock.patch.object(Path, "mkdir", side_effect=PermissionError(errno.EACCES, "denied")):
        RunWriter(at / "run.zarr", manifest={})
    RunWriter(at / "run.zarr", manifest={}).close()


@ADVICE.story("record into another store")
def _(at, provoked):
    record(at / "run.zarr", 2)
    writer = RunWriter(at / "run.zarr", manifest={}, resume=True)
    writer.declare_stream("probe", attrs={})
    wider = ArraySpec(("sample", "out"), (6, 4), "float32")
    with provoked():
        writer.declare("probe", "fc.1", "error", wider)
    with RunWriter(at / "another.zarr", manifest={}) as another:
        another.declare_stream("probe", attrs={})
        another.declare("probe", "fc.1", "error", wider)
    writer.close()


@ADVICE.story("repair the disk and {RESUME}")
def _(at, provoked):
    with provoked(), writing(at) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
        writer.flush()
        with mock.patch.object(Recording, "write", side_effect=OSError(errno.ENOSPC, "No space left")):
            writer.append("s", 1, {("a", "x"): values(1)})
            writer.flush()
    with writing(at, resume=True) as writer:
        writer.append("s", 1, {("a", "x"): values(1)})
    assert open_run(at / "run.zarr")["s"].sizes["step"] == 2


@ADVICE.story("move it back and {RESUME}")
def _(at, provoked):
    with provoked(), writing(at) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
        writer.flush()
        (at / "run.zarr").rename(at / "moved.zarr")
        writer.append("s", 1, {("a", "x"): values(1)})
        writer.flush()
    (at / "moved.zarr").rename(at / "run.zarr")
    with writing(at, resume=True) as writer:
        writer.append("s", 1, {("a", "x"): values(1)})
    assert open_run(at / "run.zarr")["s"].sizes["step"] == 2


@ADVICE.story("record fewer steps, samples or signals, or take another disk")
def _(at, provoked):
    def run(path, planned, free):
        state = mock.Mock(f_bavail=free, f_frsize=1)
        with mock.patch("os.statvfs", return_value=state), RunWriter(at / path, manifest={}) as writer:
            writer.declare_stream("s", attrs={}, planned=planned)
            writer.declare("s", "a", "x", SPEC)
            writer.append("s", 0, {("a", "x"): values(0)})

    with provoked():
        run("long.zarr", 100, 1000)
    run("short.zarr", 5, 1000)
    run("roomy.zarr", 100, 10**6)


ADVICE.row(
    "use 'block' or 'skip'",
    lambda at: RunWriter(at / "run.zarr", manifest={}, on_full="wait"),
    lambda at: RunWriter(at / "run.zarr", manifest={}, on_full="skip"),
)
ADVICE.row(
    "use 'raise' or 'warn'",
    lambda at: RunWriter(at / "run.zarr", manifest={}, on_failure="stop"),
    lambda at: RunWriter(at / "run.zarr", manifest={}, on_failure="warn"),
)


@ADVICE.story("raise buffer_bytes, record fewer samples or leave the signal out")
def _(at, provoked):
    few = ArraySpec(("sample", "out"), (2, 3), "float32")
    for i, (size, spec) in enumerate([(50, SPEC), (72, SPEC), (50, few)]):
        with RunWriter(at / f"{i}.zarr", manifest={}, buffer_bytes=size) as writer:
            writer.declare_stream("s", attrs={})
            if i:
                writer.declare("s", "a", "x", spec)
            else:
                with provoked():
                    writer.declare("s", "a", "x", spec)
                writer.declare("s", "a", "y", ArraySpec(("out",), (3,), "float32"))


# Reading.


@ADVICE.story("restore it from a copy of the store")
def _(at, provoked):
    record(at / "run.zarr")
    shutil.copytree(at / "run.zarr", at / "copy.zarr")
    chunk = at / "run.zarr/probe/fc.1/error/c.0.0.0"
    chunk.unlink()
    with provoked():
        open_run(at / "run.zarr")
    shutil.copy(at / "copy.zarr/probe/fc.1/error/c.0.0.0", chunk)
    assert open_run(at / "run.zarr")["probe/fc.1/error"].values.any()


@ADVICE.story("is reached through a link; a store holds none, so put the folder there")
def _(at, provoked):
    record(at / "run.zarr")
    layer = at / "run.zarr/probe/fc.1"
    layer.rename(at / "elsewhere")
    layer.symlink_to(at / "elsewhere")
    with provoked():
        assert not verify_run(at / "run.zarr").raise_problems()
        open_run(at / "run.zarr")["probe/fc.1/error"].load()
    layer.unlink()
    (at / "elsewhere").rename(layer)
    assert open_run(at / "run.zarr")["probe/fc.1/error"].values.any()


def _with_schema(at: Path, schema: int) -> Path:
    record(at / "run.zarr")
    document = json.loads((at / "run.zarr/zarr.json").read_text())
    document["attributes"]["fadiag_schema"] = schema
    (at / "run.zarr/zarr.json").write_text(json.dumps(document))
    return at / "run.zarr"


@ADVICE.story("record the run again")
def _(at, provoked):
    path = _with_schema(at, 1)
    with provoked():
        open_run(path)
    shutil.rmtree(path)
    record(path)
    open_run(path)


# Only a fadiag of the future can follow it.
ADVICE.row("upgrade fadiag to read it", lambda at: open_run(_with_schema(at, 10**6)))


@ADVICE.story("record one")
def _(at, provoked):
    with writing(at):
        pass
    with provoked():
        open_run(at / "run.zarr")
    with writing(at, resume=True) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
    open_run(at / "run.zarr")


@ADVICE.story("run `fadiag verify` on it")
def _(at, provoked):
    record(at / "run.zarr")
    with provoked(), mock.patch("fadiag.store.read.xarray_backend.tree_of", side_effect=KeyError("odd")):
        open_run(at / "run.zarr")
    from click.testing import CliRunner

    from fadiag.cli import main

    assert CliRunner().invoke(main, ["verify", str(at / "run.zarr")]).exit_code == 0


@ADVICE.story("needs dask: pip install 'fadiag[dask]'")
def _(at, provoked):
    record(at / "run.zarr")
    with provoked(), mock.patch("xarray.open_datatree", side_effect=ImportError("no dask")):
        open_run(at / "run.zarr", chunks={})
    pytest.importorskip("dask")
    assert "dask" in extras()
    assert open_run(at / "run.zarr", chunks={})["probe/fc.1/error"].chunks


# Copies.


@ADVICE.story("is sealed already; copy it as it is")
def _(at, provoked):
    record(at / "run.zarr")
    compact(at / "run.zarr", at / "sealed.zarr")
    with provoked():
        compact(at / "sealed.zarr", at / "again.zarr")
    shutil.copytree(at / "sealed.zarr", at / "copy.zarr")
    assert not verify_run(at / "copy.zarr").problems


@ADVICE.story("is being recorded; close it before you compact it")
def _(at, provoked):
    with writing(at) as writer:
        writer.append("s", 0, {("a", "x"): values(0)})
        with provoked():
            compact(at / "run.zarr", at / "sealed.zarr")
    compact(at / "run.zarr", at / "sealed.zarr")


@ADVICE.story("exists; compaction writes a new store, take another path")
def _(at, provoked):
    record(at / "run.zarr")
    (at / "taken.zarr").mkdir()
    with provoked():
        compact(at / "run.zarr", at / "taken.zarr")
    compact(at / "run.zarr", at / "free.zarr")


@ADVICE.story("compaction writes a new store, take another prefix")
def _(at, provoked):
    store = pytest.importorskip("obstore.store")
    record(at / "run.zarr")
    (at / "bucket/taken").mkdir(parents=True)
    (at / "bucket/free").mkdir()
    (at / "bucket/taken/object").write_text("x")
    with mock.patch.object(store, "from_url", lambda url: store.LocalStore(url.removeprefix("file://"))):
        with provoked():
            compact(at / "run.zarr", f"file://{at}/bucket/taken")
        compact(at / "run.zarr", f"file://{at}/bucket/free")
    assert open_run(at / "bucket/free")["probe/fc.1/error"].values.any()


@ADVICE.story("needs obstore: pip install 'fadiag[cloud]'")
def _(at, provoked):
    record(at / "run.zarr")
    (at / "bucket").mkdir()
    with provoked(), mock.patch.dict(sys.modules, {"obstore.store": None}):
        compact(at / "run.zarr", f"file://{at}/bucket")
    pytest.importorskip("obstore")
    assert "cloud" in extras()
    compact(at / "run.zarr", f"file://{at}/bucket")


@ADVICE.story("needs netCDF4: pip install 'fadiag[netcdf]'")
def _(at, provoked):
    record(at / "run.zarr")
    with provoked(), mock.patch("fadiag.store.tools.export.find_spec", return_value=None):
        export_netcdf(at / "run.zarr", at / "run.nc")
    pytest.importorskip("netCDF4")
    assert "netcdf" in extras()
    export_netcdf(at / "run.zarr", at / "run.nc")


@ADVICE.story("{target} exists; take another path")
def _(at, provoked):
    pytest.importorskip("netCDF4")
    record(at / "run.zarr")
    (at / "run.nc").write_text("")
    with provoked():
        export_netcdf(at / "run.zarr", at / "run.nc")
    export_netcdf(at / "run.zarr", at / "another.nc")
