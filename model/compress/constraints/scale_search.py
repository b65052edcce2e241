"""The best scale of a set of levels, exactly.

Weights w shall be ``scale * q`` with ``|q_i|`` from a set of magnitudes ``m_0 < m_1 < ... < m_Q``.
For given codes q the best scale is <w,q>/<q,q>, which leaves the error |w|^2 - <w,q>^2/<q,q>; and
as the scale falls from infinity the codes of the nearest levels change one step at a time: that of
w_i goes from m_(j-1) to m_j at the scale |w_i|/h_j, with h_j = (m_(j-1) + m_j)/2. The best codes
are the nearest ones of their own scale, so these n*Q events pass every candidate.

A small problem is swept at once: one sort of all events and two running sums. For a large one the
scales are cut into intervals, and only intervals that can hold the best are swept. With E(s) the
error of the nearest levels of scale s, |dE/ds| <= 2 |q| sqrt(E), so sqrt(E) changes by at most
|q| per unit of scale; |q| is largest at the low end of an interval. With |w| sorted and summed up
once, <w,q> and <q,q> at any scale take one binary search for each step.
"""

import math

import torch
from torch import Tensor

SWEPT = 1 << 16  # a group of more events is searched, not swept
HELD = 1 << 20  # events or binary searches held in memory at a time
LEAF = 1 << 10  # an interval with at most so many events is not cut further
CUTS = 64  # intervals at the start
NOISE = 1e-11  # rounding of an error relative to |w|^2, generously


def best_scales(groups: Tensor, magnitudes: Tensor) -> Tensor:
    """The best scale of each group.

    Parameters
    ----------
    groups : float64 tensor [groups, weights]
        Magnitudes of the weights; a 0 where the set has no zero level is an absent weight.
    magnitudes : float64 tensor [levels]
        Magnitudes of the levels, ascending.

    Returns float64 [groups]; 1 for a group of zeros.
    """
    peak = groups.amax(1)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak))
    groups = groups / peak[:, None]  # squares of tiny weights would underflow
    events = groups.shape[1] * (len(magnitudes) - 1)
    if events <= SWEPT:
        parts = groups.split(max(1, HELD // max(1, events)))
        found = torch.cat([sweep(part, magnitudes) for part in parts])
    else:
        found = groups.new_tensor([search(group, magnitudes) for group in groups])
    return torch.where(found > 0, found * peak, torch.ones_like(peak))


def sweep(groups: Tensor, magnitudes: Tensor) -> Tensor:
    """Best scales [groups] by all events of groups [groups, weights]; 0 for a group of zeros."""
    steps = len(magnitudes) - 1
    half = (magnitudes[1:] + magnitudes[:-1]) / 2
    events = (groups[:, :, None] / half).flatten(1)
    order = events.argsort(dim=1, descending=True)
    rise = groups.gather(1, order // max(1, steps)) * magnitudes.diff()[order % max(1, steps)]
    square = magnitudes.square().diff()[order % max(1, steps)]
    start = magnitudes[0]
    dot = torch.cat([start * groups.sum(1, keepdim=True), rise], 1).cumsum(1)
    count = (groups > 0).sum(1, keepdim=True)
    norm = torch.cat([start.square() * count, square], 1).cumsum(1)
    best = _gain(dot, norm).argmax(1, keepdim=True)
    return (dot.gather(1, best) / norm.gather(1, best).clamp_min(1e-300)).squeeze(1)


def search(group: Tensor, magnitudes: Tensor) -> float:
    """Best scale of one group [weights] with memory far below its events; 0 if it is zero."""
    values, counts = group[group > 0].unique(return_counts=True)
    if not len(values):
        return 0.0
    steps = _Steps(values, counts.double(), magnitudes)
    most = float(values[-1] / steps.half[0]) * (1 + 1e-9)
    least = float(values[0] / steps.half[-1]) * (1 - 1e-9)
    scales = torch.logspace(
        math.log10(most), math.log10(least), CUTS + 1, dtype=torch.float64, device=group.device
    )
    scales[0], scales[-1] = most, least
    high = steps.at(scales[:-1])
    low = steps.at(scales[1:])
    leaves = []
    error = torch.inf
    while len(high):
        error = min(error, float(_least_error(high, steps)), float(_least_error(low, steps)))
        bound = (_root(high, steps) + _root(low, steps)) / 2
        bound = bound - (high[:, 0] - low[:, 0]) * low[:, 2].sqrt() / 2
        hopeful = bound.clamp_min(0).square() <= error + NOISE * steps.total
        high, low, bound = high[hopeful], low[hopeful], bound[hopeful]
        middle = (high[:, 0] * low[:, 0]).sqrt()
        small = high[:, 3] - low[:, 3] <= LEAF
        small |= (middle >= high[:, 0]) | (middle <= low[:, 0])
        leaves.append((high[small], low[small], bound[small]))
        high, low = high[~small], low[~small]
        between = steps.at(middle[~small])
        high, low = torch.cat([high, between]), torch.cat([between, low])
    high, low, bound = (torch.cat(part) for part in zip(*leaves, strict=True))
    hopeful = bound.clamp_min(0).square() <= error + NOISE * steps.total
    return steps.best(high[hopeful, 0], low[hopeful, 0])


class _Steps:
    """Codes of the nearest levels as functions of the scale.

    ``values`` [n] are different magnitudes of weights, ascending, and ``counts`` how many weights
    have each. A state is (scale, <w,q>, <q,q>, events that are still to come).
    """

    def __init__(self, values: Tensor, counts: Tensor, magnitudes: Tensor) -> None:
        self.values = values
        self.counts = counts
        self.half = (magnitudes[1:] + magnitudes[:-1]) / 2
        self.rise = magnitudes.diff()
        self.square = magnitudes.square().diff()
        self.sums = _from_end(values * counts)
        self.numbers = _from_end(counts)
        self.start = (magnitudes[0] * self.sums[0], magnitudes[0].square() * self.numbers[0])
        self.total = float((values.square() * counts).sum())

    def first(self, scales: Tensor) -> Tensor:
        """Index [scales, steps] of the smallest value that has taken each step."""
        return torch.searchsorted(self.values, scales[:, None] * self.half)

    def at(self, scales: Tensor) -> Tensor:
        """States [scales, 4]."""
        parts = []
        for part in scales.split(max(1, HELD // len(self.half))):
            first = self.first(part)
            dot = self.start[0] + self.sums[first] @ self.rise
            norm = self.start[1] + self.numbers[first] @ self.square
            parts.append(torch.stack([part, dot, norm, first.sum(1).double()], 1))
        return torch.cat(parts) if parts else scales.new_zeros(0, 4)

    def best(self, high: Tensor, low: Tensor) -> float:
        """The best scale whose codes are those of a scale in one of the intervals, [n] each."""
        order = high.argsort(descending=True)
        first, last = self.first_of(high[order]), self.first_of(low[order])
        best, scale = -1.0, 0.0
        begin = 0
        for end in range(1, len(order) + 1):
            joined = end < len(order) and high[order[end]] == low[order[end - 1]]
            if joined and int((first[begin] - last[end]).sum()) <= HELD:
                continue
            gain, found = self._run(high[order[begin]], first[begin], last[end - 1])
            if gain > best:
                best, scale = gain, found
            begin = end
        return scale

    def first_of(self, scales: Tensor) -> Tensor:
        """As ``first``, in 32 bits."""
        parts = scales.split(max(1, HELD // len(self.half)))
        return torch.cat([self.first(part).int() for part in parts])

    def _run(self, high: Tensor, first: Tensor, last: Tensor) -> tuple[float, float]:
        """Gain and scale of the best state from the scale ``high`` on, over some events.

        Step j is taken by the values with the indices from ``last[j]`` up to ``first[j]``.
        """
        sizes = (first - last).long()
        step = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
        offset = (last - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
        index = torch.arange(len(step), device=sizes.device) + offset
        order = (self.values[index] / self.half[step]).argsort(descending=True)
        step, index = step[order], index[order]
        _, dot, norm, _ = self.at(high[None])[0]
        counts = self.counts[index]
        rise = self.values[index] * counts * self.rise[step]
        dot = torch.cat([dot[None], rise]).cumsum(0)
        norm = torch.cat([norm[None], counts * self.square[step]]).cumsum(0)
        gain = _gain(dot, norm)
        best = int(gain.argmax())
        return float(gain[best]), float(dot[best] / norm[best].clamp_min(1e-300))


def _from_end(x: Tensor) -> Tensor:
    """Sums [n + 1] of x[i:] of a tensor [n]."""
    return torch.cat([x.flip(0).cumsum(0).flip(0), x.new_zeros(1)])


def _gain(dot: Tensor, norm: Tensor) -> Tensor:
    """By how much the best scale lowers the squared error: <w,q>^2/<q,q>, or 0 without codes."""
    return torch.where(norm > 0, dot.square() / norm.clamp_min(1e-300), torch.zeros_like(dot))


def _least_error(states: Tensor, steps: _Steps) -> Tensor:
    """Squared error of the best of some states, each with its best scale."""
    return steps.total - _gain(states[:, 1], states[:, 2]).max()


def _root(states: Tensor, steps: _Steps) -> Tensor:
    """Root of the squared error of states at their own scales."""
    scale, dot, norm, _ = states.T
    return (steps.total - 2 * scale * dot + scale.square() * norm).clamp_min(0).sqrt()
