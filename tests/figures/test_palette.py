"""The palette is measured: ten colors that all readers can tell apart, also in grey."""

from itertools import combinations, pairwise

import matplotlib as mpl
import numpy as np
import pytest

from fadiag.figures.look.palette import COLORS, look
from tests.figures.color_vision import SIGHT, lab


def test_the_measure_is_right() -> None:
    # Lindbloom's values of sRGB red under D65; white by definition.
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.02)
    np.testing.assert_allclose(lab("white"), [100, 0, 0], atol=0.02)
    # Two colors of the figures before this palette, which a deuteranope could not tell apart.
    assert np.linalg.norm(lab("#d55e00", "deuteranopia") - lab("#b8860b", "deuteranopia")) < 4


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colors_are_far_apart_in_any_sight(sight) -> None:
    for one, other in combinations(COLORS, 2):
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) >= 20, (one, other)


def test_each_color_has_a_lightness_of_its_own() -> None:
    lightness = sorted(lab(color)[0] for color in COLORS)
    assert min(b - a for a, b in pairwise(lightness)) >= 5
    assert max(lightness) <= 80  # on white paper


def test_sixty_conditions_never_look_alike() -> None:
    looks = [look(place) for place in range(60)]
    assert len({(each.color, str(each.dash), each.marker) for each in looks}) == 60
    assert all(a.color != b.color and a.marker != b.marker for a, b in pairwise(looks))


def test_a_color_cycle_that_the_user_set_is_used() -> None:
    with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=["#112233", "#445566"])}):
        assert [look(place).color for place in range(3)] == ["#112233", "#445566", "#112233"]
    assert look(0).color == COLORS[0]
