"""The reprs of recorder, probe, live options and storage; `fadiag inspect` shows the recorder's table."""

from collections import OrderedDict
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from fadiag import Live, Probe, Recorder, Storage, convert, inspect_run
from fadiag.capture import direct_hooks
from fadiag.cli import main
from tests.capture.resnet import resnet18
from tests.capture.toy import labelled, loss_of

BATCH = labelled(8)


def mlp(rule="fa"):
    torch.manual_seed(0)
    body = nn.Sequential()
    for name, module in [("fc1", nn.Linear(6, 5)), ("bn", nn.BatchNorm1d(5)), ("relu", nn.ReLU())]:
        body.add_module(name, module)
    body.add_module("fc2", nn.Linear(5, 4))
    body.add_module("tanh", nn.Tanh())
    body.add_module("out", nn.Linear(4, 3))
    return convert(body, rule)


def record(model, path, batch=BATCH, loss=loss_of, **options):
    """One update of a model, and its closed recorder."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = {"probe": Probe(batch, loss)}
    recorder = Recorder(model, path, optimizer=optimizer, probes=probes, every=1, **options)
    loss(model, batch).backward()
    optimizer.step()
    recorder.step()
    recorder.close()
    return recorder


def table_of(recorder):
    return repr(recorder).split("\n", 1)[1]


MLP = """\
layer  type            weight  feedback   B             norm        gate  probe  state  check
fc1    FeedbackLinear  5×6     layerwise  fc1.feedback  batch_norm  relu  8      6      passed
fc2    FeedbackLinear  4×5     layerwise  fc2.feedback              tanh  8      6      passed
out    FeedbackLinear  3×4     layerwise  out.feedback                    8      6      passed
probe: activation, error, error_bp, error_post, gradient, gradient_bp, modulator, modulator_bp
state: bias, bias_update, gradient, update, update_rounding_floor, weight"""


def test_a_recorder_shows_a_line_for_each_layer(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    recorder = record(mlp(), path)
    assert repr(recorder) == f"Recorder({str(path)!r}, step 1, closed)\n{MLP}"
    assert inspect_run(path).layer_table() == MLP
    shown = CliRunner().invoke(main, ["inspect", str(path)], env={"COLUMNS": "100"})
    assert f"\n{MLP}\n" in shown.output


def test_in_a_notebook_the_table_keeps_its_lines_and_names_are_no_markup(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict({"<b>": nn.Linear(6, 3)}))
    recorder = record(model, tmp_path / "run.zarr")
    page = ElementTree.fromstring(recorder._repr_html_())
    assert page.tag == "pre"
    assert page.get("style").startswith("white-space: pre;")
    assert page.text == repr(recorder)
    assert "\n<b>" in page.text


def test_before_the_first_update_it_shows_what_was_asked_for(tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"optimizer": optimizer, "probes": {"probe": Probe(BATCH, loss_of)}}
    with Recorder(model, tmp_path / "run.zarr", **options) as recorder:
        assert repr(recorder).splitlines()[0].endswith("run.zarr', step 0, recording)")
        assert table_of(recorder) == MLP
    dry = Recorder(model, tmp_path / "dry.zarr", dry_run=True, **options)
    assert repr(dry).splitlines()[0].endswith("dry.zarr', step 0, dry run)")
    assert table_of(dry) == MLP
    later = Recorder(model, tmp_path / "later.zarr", live=Live(every=[7]), every=[5], **options)
    unread = table_of(later).splitlines()
    later.close()
    assert " ".join(unread[0].split()) == "layer type weight feedback B norm gate probe state live check"
    assert unread[1].split() == ["fc1", "FeedbackLinear", "5×6", "layerwise", "fc1.feedback", "8", "6", "3"]


def test_another_rank_shows_what_the_first_one_records(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fadiag.capture.session.distributed.Processes.records", False, raising=False)
    recorder = Recorder(mlp(), tmp_path / "run.zarr", probes={"probe": Probe(BATCH, loss_of)})
    assert repr(recorder).splitlines()[0].endswith("step 0, another process records)")
    assert "fc2    FeedbackLinear  4×5     layerwise  fc2.feedback" in repr(recorder)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("rule", "kind", "source"),
    [("bp", "exact", ""), ("usf", "layerwise", "computed by the rule"), ("kp", "layerwise", "fc1.feedback")],
)
def test_the_feedback_is_named_by_where_it_is_held(rule, kind, source, tmp_path: Path) -> None:
    recorder = Recorder(mlp(rule), tmp_path / "run.zarr", probes={"probe": Probe(BATCH, loss_of)})
    head, first = table_of(recorder).splitlines()[:2]
    recorder.close()
    cell = {name: first[head.index(name) :].split("  ")[0].strip() for name in ("feedback", "B ")}
    assert cell == {"feedback": kind, "B ": source}


def test_direct_feedback_names_its_sender(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    model[1].F = torch.randn(3, 5)
    model[1].register_full_backward_hook(lambda module, given, got: (got[0] @ module.F,))
    recorder = Recorder(
        model, tmp_path / "run.zarr", adapters=[direct_hooks(nn.Linear, feedback="F")],
        probes={"probe": Probe(BATCH, loss_of)},
    )  # fmt: skip
    first, second = table_of(recorder).splitlines()[1:3]
    recorder.close()
    assert "direct    sent by 1" in first
    assert "exact" in second
    assert "sent" not in second


def test_a_resnet_folds_its_alike_convolutions(tmp_path: Path) -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    recorder = record(convert(resnet18()), tmp_path / "run.zarr", (x, torch.tensor([0, 1, 2, 0])))
    lines = table_of(recorder).splitlines()
    assert lines[1].split("  ")[:2] == ["0 ... 10.conv2", "(20)"]
    assert "8×3×3×3 ... 64×64×3×3  layerwise  *.feedback   batch_norm  relu  8      4      passed" in lines[1]
    assert lines[2].startswith("13                    FeedbackLinear  3×64  ")
    assert len(lines) == 5
    assert inspect_run(tmp_path / "run.zarr").layer_table() == "\n".join(lines)


def test_a_gpt_folds_its_blocks(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=4, n_head=2, bos_token_id=0, eos_token_id=0,
        activation_function="relu", initializer_range=0.3, loss_type="ForCausalLM",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = convert(transformers.GPT2LMHeadModel(config).double())
    tokens = torch.randint(20, (4, 5), generator=torch.Generator().manual_seed(2))
    recorder = record(
        model, tmp_path / "run.zarr", tokens, lambda model, batch: model(input_ids=batch, labels=batch).loss
    )
    lines = table_of(recorder).splitlines()
    names = [line.split("  ")[0] for line in lines]
    block = [
        f"transformer.h.{{0 ... 3}}.{name}"
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert [name for name in names if "..." in name] == block
    assert (
        "  (4)     FeedbackTransposedLinear  8×32    layerwise  *.feedback " in lines[names.index(block[2])]
    )
    assert inspect_run(tmp_path / "run.zarr").layer_table() == "\n".join(lines)


def test_probe_live_and_storage_say_what_they_are() -> None:
    probe = Probe(
        BATCH, loss_of, every=10, redraws=99, mode="train", feedbacks={"b": {"fc2": torch.zeros(4, 5)}}
    )
    assert repr(probe) == (
        "Probe((float32 8×6, int64 8), loss_of, feedbacks={'b': ['fc2']}, redraws=99, every=10, mode='train')"
    )
    assert repr(Live("error", every=[1, 2])) == "Live(('error',), every=[1, 2])"
    assert repr(Storage()).startswith("Storage(buffer_bytes=None, on_full='block'")
