"""The callback for the Hugging Face Trainer, in the whole life of a training."""

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag.store import open_run, run_info

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # transformers warns of itself and of the machine
]

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from fadiag.hosts.transformers import Record  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x=None, labels=None):
        scores = self.last(torch.relu(self.first(x)))
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


class Weights(transformers.TrainerCallback):
    """Keeps the weight that each update left."""

    def __init__(self):
        self.after = {}

    def on_step_end(self, args, state, control, **kwargs):
        self.after[state.global_step] = kwargs["model"].first.weight.detach().numpy().copy()


def loss_of(model, batch):
    return model(x=batch[0], labels=batch[1])["loss"]


def images(count):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, 6, generator=generator, device="cpu")
    y = torch.randint(3, (count,), generator=generator, device="cpu")
    return [{"x": image, "labels": label} for image, label in zip(x, y, strict=True)]


@pytest.fixture
def trainer(tmp_path):
    """Return the function that makes a trainer with the callback, which is ``trainer.record``."""

    def make(*others, kind=transformers.Trainer, before=(), record=None, live=None, **arguments):
        samples = images(128)
        probe = fadiag.Probe((samples[0]["x"][None], samples[0]["labels"][None]), loss_of)
        record = record or Record(tmp_path / "run.zarr", probes={"p": probe}, every=7, live=live)
        weights = Weights()
        made = kind(
            Net(),
            transformers.TrainingArguments(
                tmp_path / "trainer",
                **{
                    "per_device_train_batch_size": 16,
                    "learning_rate": 0.3,
                    "report_to": "none",
                    "use_cpu": True,
                    "disable_tqdm": True,
                    "save_strategy": "no",
                    **arguments,
                },
            ),
            train_dataset=samples[:64],
            eval_dataset=samples[64:],
            callbacks=[*before, weights, record, *others],
        )
        made.record, made.weights = record, weights
        return made

    return make


BEST = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "save_strategy": "steps",
    "save_steps": 5,
}


def check_weights(run, weights):
    """Check that each record after the first holds the weight that its update left."""
    recorded = run["state/first/weight"]
    for step in run["state/step"].values[1:]:
        np.testing.assert_array_equal(recorded.sel(step=step), weights.after[step])


class AsInVersion4(transformers.Trainer):
    """Loads the best model before it logs the end, as transformers 4 does."""

    def log(self, logs, *args, **kwargs):
        if "train_runtime" in logs:
            self._load_best_model()
        super().log(logs, *args, **kwargs)


@pytest.mark.parametrize("kind", [transformers.Trainer, AsInVersion4])
def test_the_last_record_is_not_of_the_best_model(trainer, kind, tmp_path):
    run = trainer(kind=kind, max_steps=20, **BEST)
    run.train()
    assert (run.model.first.weight.detach().numpy() != run.weights.after[20]).any()
    store = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(store["state/step"], [0, 7, 14, 20])
    np.testing.assert_array_equal(store["p/step"], [0, 7, 14, 20])
    check_weights(store, run.weights)
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping(trainer, strategy, first, tmp_path):
    stop = transformers.EarlyStoppingCallback(1)
    options = {**BEST, "eval_strategy": strategy, "save_strategy": strategy, "learning_rate": 2.0}
    before, after = ([stop], []) if first else ([], [stop])
    run = trainer(*after, before=before, num_train_epochs=30, **options)
    run.train()
    last = run.state.global_step
    assert last < run.state.max_steps
    assert (run.model.first.weight.detach().numpy() != run.weights.after[last]).any()
    store = open_run(tmp_path / "run.zarr")
    assert store["state/step"].values[-1] == last
    check_weights(store, run.weights)
    assert store["log/eval_loss"].sel(step=last).notnull()


def test_a_callback_that_exchanges_weights_at_the_end(trainer, tmp_path):
    class Exchange(transformers.TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            with torch.no_grad():
                kwargs["model"].first.weight.zero_()

    run = trainer(before=[Exchange()], max_steps=6)
    run.train()
    check_weights(open_run(tmp_path / "run.zarr"), run.weights)


def test_weights_that_are_loaded_in_mid_run_do_not_end_the_recording(trainer, tmp_path):
    class Reload(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                kwargs["model"].load_state_dict(kwargs["model"].state_dict())

    trainer(Reload(), max_steps=6).train()
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["state/step"], [0, 6])


def test_evaluate_and_predict_before_and_after_training(trainer, tmp_path):
    run = trainer(max_steps=6, logging_steps=2, eval_on_start=True, eval_strategy="steps", eval_steps=3,
                  live=fadiag.Live(every=1))  # fmt: skip
    run.evaluate()
    run.predict(images(8))
    run.train()
    before = open_run(tmp_path / "run.zarr")["log"].to_dataset()
    run.evaluate()
    run.predict(images(8))
    log = open_run(tmp_path / "run.zarr")["log"].to_dataset()
    assert log.identical(before)
    np.testing.assert_array_equal(log["step"][log["eval_loss"].notnull()], [0, 3, 6])
    np.testing.assert_array_equal(log["step"][log["loss"].notnull()], [2, 4, 6])
    assert open_run(tmp_path / "run.zarr")["live"].sizes["step"] == 6


class Rewards(transformers.Trainer):
    """Logs what the trainers of TRL log, and something that is no number."""

    def log(self, logs, *args, **kwargs):
        super().log({**logs, "rewards/chosen": 1.5, "sample": "a text"}, *args, **kwargs)


def test_metrics_with_slashes_are_logged_and_texts_skipped_with_one_warning(trainer, tmp_path):
    run = trainer(kind=Rewards, max_steps=6, logging_steps=2)
    with pytest.warns(UserWarning, match="metric 'sample' is not recorded: scalar 'sample' is a str") as told:
        run.train()
    assert sum("is not recorded" in str(warning.message) for warning in told) == 1
    log = open_run(tmp_path / "run.zarr")["log"]
    np.testing.assert_array_equal(log["rewards_chosen"], [1.5, 1.5, 1.5])
    assert "sample" not in log


def test_a_run_goes_on_from_a_checkpoint_in_the_same_store(trainer, tmp_path):
    trainer(max_steps=4, save_strategy="steps", save_steps=4).train()
    run = trainer(max_steps=16)
    run.train(resume_from_checkpoint=str(tmp_path / "trainer/checkpoint-4"))
    store = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(store["state/step"], [0, 7, 14, 16])
    check_weights(store, run.weights)
    assert run_info(tmp_path / "run.zarr").generation == 1


def test_after_an_exception_the_same_trainer_goes_on(trainer, tmp_path):
    class Failing(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 9 and not self.failed:
                self.failed = True
                raise RuntimeError("no more")

        failed = False

    run = trainer(Failing(), max_steps=16, save_strategy="steps", save_steps=8)
    with pytest.raises(RuntimeError, match="no more"):
        run.train()
    run.train(resume_from_checkpoint=True)
    store = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(store["state/step"], [0, 7, 14, 16])
    check_weights(store, run.weights)
    assert run_info(tmp_path / "run.zarr").status == "complete"


def test_steps_are_updates_with_accumulated_batches_over_two_epochs(trainer, tmp_path):
    run = trainer(num_train_epochs=2, gradient_accumulation_steps=2, logging_steps=1)
    run.train()
    store = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(store["state/step"], [0, 4])  # 64 samples in batches of 16, by two
    np.testing.assert_array_equal(store["log/step"], [1, 2, 3, 4])
    check_weights(store, run.weights)


def test_a_second_training_does_not_write_over_the_first(trainer, tmp_path):
    run = trainer(max_steps=2)
    run.train()
    with pytest.raises(fadiag.errors.StoreError, match=r"run\.zarr exists"):
        run.train()
    run.record.path = tmp_path / "second.zarr"
    run.train()
    assert run_info(tmp_path / "second.zarr").status == "complete"
