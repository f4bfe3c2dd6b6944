"""Say once what the sentences of a caption share: a layer, a step, and the seeds of intervals."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Shared", "alone", "is_placed", "of_seeds", "placed", "plain", "share", "spans_zero"]

#: A mark inside a sentence. Its characters are in no name, since `printable` escapes them.
_MARK = re.compile("\x02([^\x1f\x03]*)\x1f([^\x1f\x03]*)\x1f([^\x03]*)\x03")


def placed(layer: str, step: str, *, inside: bool = False) -> str:
    r"""Return a mark of the layer and the step of a sentence, before it or `inside` it.

    Examples
    --------
    >>> plain(placed("fc2", "the last step") + "fa 3")
    'At fc2, last step: fa 3'
    >>> plain(f"Runs below their null{placed('fc2', '', inside=True)}: 3")
    'Runs below their null at fc2: 3'
    """
    return f"\x02{'inside' if inside else 'at'}\x1f{layer}\x1f{step}\x03"


def is_placed(sentence: str) -> bool:
    """Return whether a sentence has a mark of its layer or step."""
    return any(mark[1] in ("at", "inside") for mark in _MARK.finditer(sentence))


def of_seeds(n: int, *, paired: bool = False) -> str:
    """Return a mark of the seeds of an interval, which is said where it is not that of most intervals."""
    return f"\x02{'paired' if paired else 'seeds'}\x1f{n}\x1f\x03"


def alone(n: int) -> str:
    """Return a mark of a mean without an interval: of one seed, or of seeds with equal values."""
    return f"\x02alone\x1f{'one seed' if n == 1 else f'equal in {n} seeds'}\x1f\x03"


def spans_zero() -> str:
    """Return a mark of an interval of a difference that holds 0."""
    return "\x02zero\x1f\x1f\x03"


@dataclass(frozen=True)
class Shared:
    """What sentences share: layer, step, and the seeds of means and of differences; and what needs a word."""

    layer: str = ""
    step: str = ""
    seeds: str = ""
    paired: str = ""
    #: The layer of a sentence that is the only one with a layer.
    only: str = ""
    needs: frozenset[str] = frozenset()

    @property
    def place(self) -> str:
        """The layer and the step in words."""
        return _place(self.layer, self.step)

    @property
    def brackets(self) -> str:
        """The sentences on the intervals; "" if there is no mean."""
        over = f"{self.seeds} seeds" if self.seeds else f"{self.paired} paired seeds"
        if self.seeds and self.paired:
            over += ", paired" if self.seeds == self.paired else f", or {self.paired} paired ones,"
            over += " for differences"
        over += ", or n where it is given" if "n" in self.needs else ""
        parts = [f"Means [95 % t intervals] over {over}"] if self.seeds or self.paired else []
        parts += (
            ["an interval that holds 0 leaves open whether there is a difference"]
            if "zero" in self.needs
            else []
        )
        parts += ["one seed has no interval"] if "one" in self.needs else []
        parts += ["equal values give no interval"] if "equal" in self.needs else []
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]}." if text else ""

    def written(self, text: str) -> str:
        """Return a sentence without its marks; what is not shared stays."""

        def word(mark: re.Match[str]) -> str:
            kind, value, step = mark.groups()
            if kind in ("seeds", "paired"):
                return "" if value == getattr(self, kind) else f" (n = {value})"
            if kind in ("alone", "zero"):
                return f" ({value})" if value else ""
            if kind == "inside":
                return "" if value in (self.layer, self.only) else f" at {value}"
            place = _place("" if value == self.layer else value, "" if step == self.step else step)
            return f"At {place}: " if place else ""

        return _MARK.sub(word, text)


def share(sentences: Sequence[str]) -> Shared:
    """Return what sentences share; a layer or a step of a single sentence is said there."""
    marks = [mark.groups() for text in sentences for mark in _MARK.finditer(text)]
    places = [mark for mark in marks if mark[0] == "at"]
    layers, steps = ({mark[i] for mark in places if mark[i]} for i in (1, 2))
    several = len(places) > 1
    held = {kind: Counter(n for found, n, _ in marks if found == kind) for kind in ("seeds", "paired")}
    most = {kind: max(many, key=lambda n: (many[n], int(n)), default="") for kind, many in held.items()}
    needs = {"n"} if any(len(many) > 1 for many in held.values()) else set()
    needs |= {value.partition(" ")[0] or kind for kind, value, _ in marks if kind in ("alone", "zero")}
    only = layers.pop() if len(layers) == 1 else ""
    return Shared(
        only if several else "",
        steps.pop() if several and len(steps) == 1 else "",
        **most,
        only=only,
        needs=frozenset(needs),
    )


def plain(text: str) -> str:
    """Return a sentence that is alone, with its layer and its step, and with the reason of each mean alone.

    >>> plain(f"fa 3{alone(1)}")
    'fa 3 (one seed, no interval)'
    """
    found = share([text])
    here = Shared(seeds=found.seeds, paired=found.paired)
    return here.written(re.sub("(\x02alone\x1f[^\x1f]*)\x1f", "\\1, no interval\x1f", text))


def _place(layer: str, step: str) -> str:
    return f"{layer}, {step.removeprefix('the ')}" if layer and step else layer or step
