"""The table of a run's layers."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.store import ArraySpec, RunWriter, layer_table


def conv(name, order, **attrs):
    shape = {"type": "Conv2d", "weight_shape": [8, 8, 3, 3], "feedback_kind": "exact"}
    return {"name": name, "order": order, **shape, **attrs}, ["error"]


def names(layers):
    return [line.split("  ")[0] for line in layer_table({"probe": layers}).splitlines()[1:-1]]


def test_alike_layers_in_a_row_share_a_line() -> None:
    layers = [conv(f"conv{i + 1}", i) for i in range(17)]
    assert (
        layer_table({"probe": layers}).splitlines()[1].startswith("conv1 ... conv17  (17)  Conv2d  8×8×3×3 ")
    )
    layers[9][0]["gate"] = "relu"
    assert names(layers) == ["conv1 ... conv9", "conv10", "conv11 ... conv17"]


def test_few_layers_stay_on_lines_of_their_own() -> None:
    assert names([conv(f"conv{i}", i) for i in range(3)]) == ["conv0", "conv1", "conv2"]


def test_alike_blocks_share_lines_and_others_between_them_do_not() -> None:
    blocks = [conv(f"h.{i}.{name}", 2 * i, gate=name) for i in range(3) for name in ("a", "b")]
    assert names([*blocks, conv("top", 9)]) == ["h.{0 ... 2}.a", "h.{0 ... 2}.b", "top"]
    assert names(blocks[:4]) == ["h.0.a", "h.0.b", "h.1.a", "h.1.b"]


def test_verdicts_that_differ_name_their_streams() -> None:
    good, bad = conv("c", 0, error_bp_check="passed"), conv("c", 0, error_bp_check="failed")
    assert layer_table({"one": [good], "two": [bad]}).splitlines()[1].endswith("one passed, two failed")
    assert layer_table({"one": [good], "two": [good]}).splitlines()[1].endswith("  passed")


def test_verdicts_do_not_part_alike_layers_and_are_counted() -> None:
    layers = [conv(f"conv{i}", i, error_bp_check="passed" if i % 6 else "unchecked") for i in range(150)]
    passed = [conv(f"conv{i}", i, error_bp_check="passed") for i in range(150)]
    assert names(layers) == ["conv0 ... conv149"]
    assert layer_table({"probe": layers}).splitlines()[1].endswith("  passed 125, unchecked 25")
    both = layer_table({"one": layers, "two": passed}).splitlines()[1]
    assert both.endswith("  one passed 125, unchecked 25; two passed")


def test_no_control_character_of_a_store_reaches_the_terminal(tmp_path: Path) -> None:
    path, bad = tmp_path / "run.zarr", "fc\x1b[2J\x07\x00\u202e\n\x9b"
    attrs = {"type": bad, "norm": bad, "gate": bad, "feedback_kind": bad, "feedback_from": bad}
    with RunWriter(path, manifest={"meta": {"note": bad, bad: 1}}) as writer:
        writer.declare_stream("probe", attrs={"kind": bad})
        spec = ArraySpec(("sample", "out"), (2, 3), "float32")
        own = {"name": bad, "order": 0, "weight_shape": [bad], "error_bp_check": bad, **attrs}
        writer.declare("probe", "fc", "error", spec, layer_attrs=own)
        writer.append("probe", 0, {("fc", "error"): np.zeros((2, 3), np.float32)})
    done = CliRunner().invoke(main, ["inspect", str(path)], color=True)
    assert done.exit_code == 0, done.output
    assert r"fc\x1b[2J\x07\x00\u202e\n\x9b" in done.output
    assert all(c.isprintable() for c in done.output.replace("\n", ""))
