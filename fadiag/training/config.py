"""The configuration of a training run: the keys of a TOML file, with their defaults and bounds."""

from typing import Annotated, Literal

import msgspec

__all__ = ["Config", "DataConfig", "ModelConfig", "OptimizerConfig", "RecordConfig", "SeedConfig"]

#: A bound, since TOML can write infinity.
_LARGEST = 1e6
_Positive = Annotated[float, msgspec.Meta(gt=0, le=_LARGEST)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_CountOrZero = Annotated[int, msgspec.Meta(ge=0)]
_Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The images.

    Attributes
    ----------
    name : {"digits", "fashion-mnist", "cifar10"}
    folder : str
        Where the files are; the digits come with the package.
    train_samples, test_samples : int, optional
        Take only the first ones; all by default.
    held_out : {"test", "validation"}
        The images that accuracy and probe are measured on. The log names the accuracy after them. For tuning,
        "validation" takes the last fifth of the training images and leaves the test images alone.
    """

    name: Literal["digits", "fashion-mnist", "cifar10"] = "digits"
    folder: str | None = None
    train_samples: _Count | None = None
    test_samples: _Count | None = None
    held_out: Literal["test", "validation"] = "test"


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The network: hidden layers fc1, fc2, ... and the output layer out.

    Attributes
    ----------
    hidden : list of int
        Widths; at least one.
    norm : {"none", "batch"}
        Batch normalization between each hidden layer and its ReLU.
    init_scale : float
        Factor on the Kaiming-normal weights, and so on the feedback, which is drawn with their scale.
    """

    hidden: Annotated[tuple[_Count, ...], msgspec.Meta(min_length=1)] = (128, 128, 128)
    norm: Literal["none", "batch"] = "none"
    init_scale: _Positive = 1.0


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The optimizer.

    Attributes
    ----------
    name : {"sgd", "muon"}
        Muon takes the weights between hidden layers; first and last layer, norms and biases go to Adam.
    learning_rate : float
        The rate of SGD or Muon.
    adam_learning_rate : float
        The rate of Adam beside Muon.
    momentum, weight_decay : float
        Those of SGD or Muon.
    schedule : {"cosine", "constant"}
        Cosine falls to zero at the last step.
    """

    name: Literal["sgd", "muon"] = "sgd"
    learning_rate: _Positive = 0.05
    adam_learning_rate: _Positive = 1e-3
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    weight_decay: _NotNegative = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"


class SeedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Three seeds for three sources of chance, so that each can be varied alone."""

    init: _Seed = 0
    data: _Seed = 0
    feedback: _Seed = 0


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded.

    Attributes
    ----------
    every : int
        Steps between two records of the probe and of the state.
    probe_samples : int
        How many of the first held-out images are the probe.
    probe_mode : {"train", "eval"}
        The model's mode in a probe. In "train", batch norm uses the probe's own statistics, as a training
        step uses its batch's. So the Jacobians are of the kind that the learning rule works with.
    redraws, gate_draws : int
        Draws of the redrawn-feedback and of the gate null, at the first record and the last.
    """

    every: _Count = 100
    probe_samples: _Count = 256
    probe_mode: Literal["train", "eval"] = "train"
    redraws: _CountOrZero = 99
    gate_draws: _CountOrZero = 20


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training run.

    Attributes
    ----------
    condition : str, optional
        Its name in figures; made of rule, optimizer and norm by default.
    rule : str
        A rule that `fadiag.convert` knows.
    freeze_hidden : bool
        Train the output layer only: the control that any rule has to beat.
    epochs, batch_size : int
        The last incomplete batch of an epoch is left out.
    """

    condition: str | None = None
    rule: str = "fa"
    freeze_hidden: bool = False
    epochs: _Count = 30
    batch_size: _Count = 50
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    seeds: SeedConfig = SeedConfig()
    record: RecordConfig = RecordConfig()

    @property
    def label(self) -> str:
        """The condition's name.

        Examples
        --------
        >>> Config(rule="fa", optimizer=OptimizerConfig(name="muon"), model=ModelConfig(norm="batch")).label
        'fa+muon+bn'
        """
        if self.condition is not None:
            return self.condition
        parts = ["frozen" if self.freeze_hidden else self.rule]
        parts += ["muon"] if self.optimizer.name == "muon" else []
        parts += ["bn"] if self.model.norm == "batch" else []
        return "+".join(parts)
