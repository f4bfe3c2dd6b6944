"""What convert leaves out: said in a warning, an error where it is most of the model, silent where meant."""

import warnings

import pytest
import torch
from torch import nn

from fadiag.errors import ConvertWarning, InputError
from fadiag.rules import FeedbackLayer, convert

WAYS = (
    r"convert takes nn.Linear, nn.Conv1d, nn.Conv2d, transformers' Conv1D. If this is intended, name "
    r'the layers to convert by layers=\[...\], or give layers="\*" for all that it can take'
)


class Recurrent(nn.Module):
    """With 448 entries in the recurrent layer's matrices, 24 in the linear layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 8)
        self.out = nn.Linear(8, 3)


def converted(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, FeedbackLayer)]


def test_most_of_a_model_left_out_is_refused_and_the_model_left_whole() -> None:
    model = Recurrent()
    match = (
        r"most of Recurrent would keep its exact backward pass: 'rnn' \(LSTM\), with 94.9 % of the entries "
        rf"of all its matrices; {WAYS}"
    )
    with pytest.raises(InputError, match=match):
        convert(model)
    assert type(model.out) is nn.Linear
    assert not list(model.buffers())


@pytest.mark.parametrize("chosen", ["*", "out", ["out"], nn.Linear])
def test_layers_says_that_it_is_meant_so(chosen: object) -> None:
    assert converted(convert(Recurrent(), layers=chosen)) == ["out"]


def test_a_smaller_part_left_out_is_named_with_its_share() -> None:
    block = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8)
    match = (
        r"a part of TransformerEncoderLayer keeps its exact backward pass: 'self_attn' "
        r"\(MultiheadAttention\), 'self_attn.out_proj' \(NonDynamicallyQuantizableLinear\), with 50 % of the "
        rf"entries of all its matrices; {WAYS}"
    )
    with pytest.warns(ConvertWarning, match=match) as caught:
        convert(block)
    assert caught[0].filename == __file__
    assert converted(block) == ["linear1", "linear2"]


def test_only_a_few_are_named() -> None:
    model = nn.Sequential(nn.Linear(40, 40), *(nn.Bilinear(3, 3, 3) for _ in range(5)))
    with pytest.warns(
        ConvertWarning, match=r": '1' \(Bilinear\), '2' .*, '3' \(Bilinear\) and 2 more, with 7.78 %"
    ):
        convert(model)


def test_a_matrix_is_found_wherever_it_is_owned() -> None:
    class Wrapper(nn.Module):
        """Owns a matrix, and has a layer inside."""

        def __init__(self) -> None:
            super().__init__()
            self.mixing = nn.Parameter(torch.eye(4))
            self.inner = nn.Linear(40, 4)

    listed = nn.ParameterList([torch.zeros(3, 3)])
    for owner, name in ((Wrapper(), r"'0' \(Wrapper\)"), (listed, r"'0' \(ParameterList\)")):
        with pytest.warns(ConvertWarning, match=name):
            convert(nn.Sequential(owner, nn.Linear(40, 4)))


def test_tables_norms_and_what_is_added_to_every_sample_do_not_count() -> None:
    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 8))
            self.places = nn.Parameter(torch.zeros(1, 50, 8))
            self.table, self.bags = nn.Embedding(90, 8), nn.EmbeddingBag(90, 8)
            self.norm, self.square = nn.LayerNorm((50, 8)), nn.RMSNorm((50, 8))
            self.batch, self.gate = nn.BatchNorm1d(8), nn.PReLU(8)
            self.out = nn.Linear(8, 3)

    assert converted(convert(Vision())) == ["out"]


def test_a_table_tied_to_a_converted_layer_stays_a_table() -> None:
    table, out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    out.weight = table.weight
    model = convert(nn.Sequential(table, out))
    assert converted(model) == ["1"]
    assert model[1].weight is model[0].weight


def test_what_was_converted_before_counts_as_converted() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    convert(model, layers="0")
    convert(model, "usf")
    assert [m.rule for m in model] == ["fa", "usf", "usf"]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_layer_without_weights_yet_is_not_left_out_without_a_word() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    with pytest.raises(
        InputError, match=r"layer '1' has no weights yet; run one batch or initialize it before"
    ):
        convert(model)
    assert not converted(model)
    model(torch.zeros(1, 4))
    assert converted(convert(model)) == ["0", "1"]


def test_bp_leaves_nothing_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(Recurrent(), "bp")
