"""What earlier results hold of the same recordings is not measured again."""

import numpy as np

from fadiag.analysis import Metric, analyze


class Counted:
    """A metric's function that counts the steps it was asked for."""

    def __init__(self):
        self.steps = []

    def __call__(self, view):
        self.steps += [(view.layer.name, int(step)) for step in view.steps]
        return np.ones(len(view.steps))


def counted(version=1):
    function = Counted()
    metric = Metric(
        name="error_one",
        kinds=("probe",),
        signals=("error",),
        function=function,
        long_name="one",
        formula="1",
        source="this test",
        version=version,
    )
    return function, metric


def measured(tmp_path, runs, **options):
    version = options.pop("version", 1)
    function, metric = counted(version)
    results = analyze(runs, metrics=[metric], output=tmp_path / "results.zarr", **options)
    return sorted(function.steps), results


def test_what_was_measured_is_not_measured_again(make_run, tmp_path):
    everything, first = measured(tmp_path, [make_run(0)])
    assert len(everything) == 3 * 4
    steps, second = measured(tmp_path, [make_run(0)])
    assert steps == []
    np.testing.assert_array_equal(first["probe/error_one"], second["probe/error_one"])


def test_a_run_that_went_on_is_measured_from_there(make_run, tmp_path):
    measured(tmp_path, [make_run(0)])
    steps, results = measured(tmp_path, [make_run(3, condition="bp"), make_run(0, steps=(0, 10, 20, 30, 40))])
    assert [s for s in steps if s[1] == 40] == [("fc1", 40), ("fc2", 40), ("out", 40)]
    assert len(steps) == 3 * 4 + 3
    assert results["probe/error_one"].sel(run="fa-seed0").notnull().all()


def test_another_generation_definition_or_unfolding_is_measured_again(make_run, tmp_path):
    measured(tmp_path, [make_run(0)])
    again = make_run(0)
    again.attrs["generation"] = 1
    assert len(measured(tmp_path, [again])[0]) == 12
    assert len(measured(tmp_path, [again], version=2)[0]) == 12
    assert len(measured(tmp_path, [again], version=2, unfolding="channels")[0]) == 12
    assert len(measured(tmp_path, [again], version=2, unfolding="channels", k=2)[0]) == 12
    assert measured(tmp_path, [again], version=2, unfolding="channels", k=2)[0] == []
