"""Define the bounds that values of a configuration share."""

from typing import Annotated

import msgspec

__all__ = ["Count", "CountOrZero", "NotNegative", "Positive", "Seed", "Share"]

#: A bound, since TOML can write infinity.
_LARGEST = 1e6
Positive = Annotated[float, msgspec.Meta(gt=0, le=_LARGEST)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)]
#: A share of a whole, less than all of it.
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
