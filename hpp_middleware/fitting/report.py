"""
What came of a fit, and whether it is to be installed: only what is surely better than all that there was.

An area that is greater by little is so by chance: of fits to outcomes that were drawn by lot, a third are ahead of all.
So the fitted scorer must be ahead by some standard errors. Above a random order by three: fits that share most of their
prompts err together, and their area was seen to scatter a third more than its error says. Above what else there was by
one, of the difference on the same prompts. How often that is right: `make auto-gate`.
"""

import math
from dataclasses import dataclass, field

from hpp_middleware.errors import ConfigurationError

__all__ = ["ABOVE_CHANCE", "ABOVE_OTHERS", "FitReport", "Refused", "Rival"]

ABOVE_CHANCE = 3.0
"""So many standard errors the area must be above that of a random order."""

ABOVE_OTHERS = 1.0
"""And so many of the difference above the scorer that the fit started from, the rules, and length alone."""

SPARE = 1.0
"""So many errors more are expected of a fit that is to pass five times out of six."""


@dataclass(frozen=True)
class Rival:
    """What the fitted scorer is held against, on the same prompts."""

    name: str
    area: float
    """Its APGR."""
    ahead: float
    """By how much the fitted scorer's is greater."""
    error: float
    """One standard error of that."""
    errors: float
    """So many of them it must be ahead."""

    @property
    def needed(self) -> float:
        """By how much it must be ahead."""
        return self.errors * self.error

    @property
    def is_beaten(self) -> bool:
        """Whether it is, and surely."""
        return self.ahead > max(0.0, self.needed)

    def enough(self, prompts: int) -> int | None:
        """
        With how many prompts in all it would probably be beaten, if the fitted scorer stays as far ahead.

        Args:
            prompts: How many there are now.
        Returns:
            None where it is not ahead: then nobody can say.
        """
        if self.ahead <= 0:
            return None
        return max(prompts, math.ceil(prompts * ((self.errors + SPARE) * self.error / self.ahead) ** 2))


@dataclass(frozen=True)
class FitReport:
    """What came of a fit. All areas are APGR on prompts that were not fitted on; 0.5 is a random order."""

    strong: str
    weak: str
    prompts: int
    quality_strong: float
    quality_weak: float
    fitted: float
    rivals: tuple[Rival, Rival, Rival, Rival]
    """A random order, the scorer that the fit started from, the rules, and length alone."""
    ridge: float
    answers: dict[str, int]
    """The usual tokens of an answer to each kind of prompt, as the file has them; empty where nobody knows."""
    data: bytes = field(repr=False)
    """The fitted model file; empty where it was refused."""

    @property
    def error(self) -> float:
        """How far off ``fitted`` may be by which prompts these happen to be: one standard error."""
        return self.rivals[0].error

    @property
    def start(self) -> float:
        """The area of the scorer that the fit started from."""
        return self.rivals[1].area

    @property
    def rules(self) -> float:
        """That of short prompts and simple words to the weaker model, and longer ones first to the stronger."""
        return self.rivals[2].area

    @property
    def length(self) -> float:
        """That of the longest first."""
        return self.rivals[3].area

    @property
    def better(self) -> bool:
        """Whether the fitted scorer surely beats everything it was compared with."""
        return all(rival.is_beaten for rival in self.rivals)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.better:
            return "the fitted scorer is better than the scorer it started from, the rules, and length alone"
        left = [rival for rival in self.rivals if not rival.is_beaten]
        return f"the fitted scorer is not surely better than {' and '.join(map(_short_of, left))}"

    @property
    def advice(self) -> str:
        """How many more outcomes would probably do; empty where it is better as it is."""
        if self.better:
            return ""
        needed = [rival.enough(self.prompts) for rival in self.rivals if not rival.is_beaten]
        known = [each for each in needed if each is not None]
        if len(known) < len(needed):
            return "as it is behind, how many more outcomes would do cannot be said"
        most = max(known)
        return (
            f"about {most:,} prompts in all ({most - self.prompts:,} more) would probably do, if it stays as far ahead"
        )

    def __str__(self) -> str:
        names = ("random", "before", "rules", "length")
        return "\n".join(
            (
                f"{self.strong} over {self.weak}: {self.prompts} prompts that both answered",
                f"quality: {self.quality_strong:.3f} strong, {self.quality_weak:.3f} weak",
                "area under the recovered gap (APGR, cross-validated; 0.5 is a random order):",
                f"  fitted  {self.fitted:.3f} +- {self.error:.3f}",
                *(f"  {name:7} {_told(rival)}" for name, rival in zip(names, self.rivals, strict=True)),
                "tokens of an answer: " + (", ".join(f"{kind} {n}" for kind, n in self.answers.items()) or "unknown"),
                *filter(None, (self.verdict, self.advice)),
            )
        )


class Refused(ConfigurationError):
    """The fitted model is not surely better than what there was; ``report`` says by how much."""

    def __init__(self, report: FitReport) -> None:
        super().__init__(f"not installed: {report.verdict}\n{report}")
        self.report = report


def _short_of(rival: Rival) -> str:
    by = f"by {abs(rival.ahead):.3f} +- {rival.error:.3f}"
    if rival.ahead <= 0:
        return f"{rival.name} (behind {by})"
    return f"{rival.name} (ahead {by}, of {rival.needed:.3f} that are needed)"


def _told(rival: Rival) -> str:
    where = "ahead" if rival.ahead > 0 else "behind"
    return f"{rival.area:.3f}, {where} by {abs(rival.ahead):.3f} +- {rival.error:.3f}; {rival.needed:.3f} are needed"
