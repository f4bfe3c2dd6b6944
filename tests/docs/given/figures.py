"""Results of three conditions, in a file."""

from fadiag.results import save_results
from tests.results.synthetic_results import synthetic

save_results(synthetic(("bp", "fa", "fa+muon+bn"), layers=("fc1", "fc2", "fc3", "out")), "results.zarr")
