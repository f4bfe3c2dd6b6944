"""Define the keys of the table ``[feedback]``: the distribution of B."""

from typing import Literal

import msgspec

from fadiag.training.config.bounds import Positive

__all__ = ["FeedbackConfig"]


class FeedbackConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The feedback matrices B of layerwise rules, or F of direct rules.

    Attributes
    ----------
    law : {"gaussian", "uniform", "orthogonal", "permuted"}
        See `fadiag.rules.draw_feedback`.
    scale : float, optional
        Root mean square of B over that of the first weights with ``model.weight_scale`` 1. By default it is
        ``model.weight_scale``, so B has the scale of the weights. Set it to 1 to draw the same B for weights
        of any scale.

    Examples
    --------
    >>> FeedbackConfig(law="orthogonal").scale is None
    True
    """

    law: Literal["gaussian", "uniform", "orthogonal", "permuted"] = "gaussian"
    scale: Positive | None = None
