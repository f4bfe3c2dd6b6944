"""Define Direct Feedback Alignment: each layer receives the outputs' error through a fixed random matrix.

Noekland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016,
arXiv 1609.01596.
"""

from torch import Tensor

from fadiag.rules.catalog.direct import DirectLayer, recomputes
from fadiag.rules.layers.direct import join_taps, tap_input
from fadiag.rules.rule import Rule

__all__ = ["DFA", "DFALayer"]


class DFALayer(DirectLayer):
    """Send ``delta_L F`` to the layer below, where delta_L is the error of the network's outputs.

    The output layer learns by its own error, and sends that error through its F as well.
    """

    def credited(self, x: Tensor) -> Tensor:
        """Return the input unchanged; backward, it receives the outputs' error times F."""
        credited, tap = tap_input(x, self.matrix_of_pass(x), self.name)
        if not recomputes():
            self._state.taps.append(tap)
        return credited

    def with_taps(self, outputs: Tensor) -> Tensor:
        """Return the network's outputs unchanged; backward, the taps of the pass receive their error."""
        taps = self._state.taps
        if recomputes() or not taps:
            return outputs
        self._state.taps = []
        return join_taps(outputs, taps)


DFA = Rule("dfa", DFALayer, needs_example=True)
