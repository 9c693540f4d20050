"""Sampling by temperature: how many tokens of each member a mix takes, exact to the token.

    tokens = min(available * max_passes, C * weight ** tau)

with C such that the tokens of all members add up to the total. At tau 1 members keep the proportions of their weights;
below, small ones get more than their share, until they have no more to give. mmBERT took its languages in this way,
with FineWeb2's word counts as weights and tau 0.7, 0.5 and 0.3 in its three phases.

Numbers are `Decimal` with 40 digits: powers of floating point numbers differ in their last bit from machine to machine,
and a plan has to be the same on each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from itertools import accumulate, pairwise

from ettin_data.base.errors import BuildError

_EXACT = Context(prec=40)


@dataclass(frozen=True)
class Member:
    """Something that a mix takes a part of: a language.

    Attributes:
        name: of which there is one.
        weight: how much of it there is in the world, in any unit; one without weight gets nothing.
        available: tokens that can be had of it in one pass.
    """

    name: str
    weight: int
    available: int


@dataclass(frozen=True)
class Share:
    """What a member gives.

    Attributes:
        name, weight, available: of the member.
        target: its tokens.
        uncapped: what it would have been asked for, were there no end to it: C * weight ** tau.
        limit: the most that it can give, available * max_passes.
    """

    name: str
    weight: int
    available: int
    target: int
    uncapped: float
    limit: int

    @property
    def passes(self) -> float:
        """Over what is available; 0.0 where nothing is taken."""
        return self.target / self.available if self.target else 0.0

    @property
    def why(self) -> str | None:
        """Why it gives less than the law asks for; None if it does not."""
        if self.weight == 0:
            return "it has no weight"
        if self.target < self.limit or self.uncapped <= self.limit:
            return None
        times = self.limit / max(self.available, 1)
        return f"all {self.available:,} tokens are taken" + (f" {times:g} times" if times not in (0, 1) else "")


@dataclass(frozen=True)
class Allotment:
    """The shares of all members, by name, with the constant of the law.

    Attributes:
        shares: in the order of their names.
        tau: the temperature.
        scale: C; None where every member gives all that it has.
    """

    shares: tuple[Share, ...]
    tau: float
    scale: float | None

    @property
    def targets(self) -> dict[str, int]:
        """Name -> tokens."""
        return {share.name: share.target for share in self.shares}


def allot(members: Iterable[Member], total: int, tau: float, max_passes: float = 1.0) -> Allotment:
    """Split a total over members by temperature. The result does not depend on the order of the members.

    Args:
        members: each name once; weights and what is available are not negative.
        total: tokens of all together; met exactly.
        tau: from 0 (every member alike) to 1 (in proportion to the weights), or more.
        max_passes: how often a member may be gone through, more than 0; a part of a pass is one.

    Raises:
        BuildError: the members cannot give the total, or an argument is none.
    """
    given = sorted(members, key=lambda member: member.name)
    _require_sound(given, total, tau, max_passes)
    power = {member.name: _power(member.weight, tau) for member in given}
    passes = Decimal(repr(float(max_passes)))
    limit = {m.name: int(_EXACT.multiply(Decimal(m.available), passes).to_integral_value(ROUND_FLOOR)) for m in given}
    taking = [member.name for member in given if member.weight]
    if (most := sum(limit[name] for name in taking)) < total:
        raise BuildError(
            f"{total:,} tokens are more than the {len(taking):,} members have",
            why=f"with max_passes {max_passes:g} they give {most:,}, {total - most:,} too few",
            remedy="raise max_passes, lower the total, or name more members",
        )
    scale = _scale(taking, power, limit, total)
    targets, rest = dict.fromkeys((member.name for member in given), 0), total
    weight = {member.name: member.weight for member in given}
    left: list[tuple[Decimal, int, str]] = []
    for name in taking:
        asked = limit[name] if scale is None else min(Decimal(limit[name]), _EXACT.multiply(scale, power[name]))
        whole = int(asked)
        targets[name], rest = whole, rest - whole
        if scale is not None and whole < limit[name]:
            left.append((whole - Decimal(asked), -weight[name], name))
    # What rounding down left over goes to the largest remainders; of equal ones, to the heaviest, then the first names.
    for _, _, name in sorted(left)[:rest]:
        targets[name] += 1
    return Allotment(
        tuple(
            Share(m.name, m.weight, m.available, targets[m.name], float((scale or 0) * power[m.name]), limit[m.name])
            for m in given
        ),
        tau,
        None if scale is None else float(scale),
    )


def _scale(names: Sequence[str], power: dict[str, Decimal], limit: dict[str, int], total: int) -> Decimal | None:
    """C. Members reach their limits in the order of limit over power; C is found between two of them."""
    order = sorted(names, key=lambda name: (_EXACT.divide(Decimal(limit[name]), power[name]), name))
    # Sums from the end: to take the powers of capped members off the sum of all would leave the error of the largest.
    sums = list(accumulate((power[name] for name in reversed(order)), _EXACT.add))[::-1]
    rest = Decimal(total)
    for name, powers in zip(order, sums, strict=True):
        # Of this member and those that come after it, none is capped if C is what they would share the rest with.
        scale = _EXACT.divide(rest, powers)
        if _EXACT.multiply(scale, power[name]) <= limit[name]:
            return scale
        rest -= limit[name]
    return None


def _power(weight: int, tau: float) -> Decimal:
    return _EXACT.power(Decimal(weight), Decimal(repr(float(tau)))) if weight else Decimal(0)


def _require_sound(members: Sequence[Member], total: int, tau: float, max_passes: float) -> None:
    names = [member.name for member in members]
    twice = [name for name, other in pairwise(names) if name == other]
    low = [member for member in members if member.weight < 0 or member.available < 0]
    for wrong, what in (
        (twice, f"the member {twice[0]!r} stands there twice" if twice else ""),
        (low, f"{low[0].name} has weight {low[0].weight:,}, {low[0].available:,} tokens" if low else ""),
        (total < 0, f"a total of {total:,} tokens"),
        (not 0 <= tau <= 8, f"a temperature of {tau!r}, which is not from 0 to 8"),
        (not 0 < max_passes <= 1e6, f"max_passes {max_passes!r}, which is not over 0 and up to a million"),
    ):
        if wrong:
            raise BuildError(f"tokens cannot be allotted: {what}", remedy="correct the weights or the recipe")
