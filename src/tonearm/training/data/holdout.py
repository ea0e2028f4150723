"""Which clips are held out of a collection: the asked share of them, balanced by class, whole groups where it has any.

Letters: the *share* asked for is met within one clip, or where whole groups are held out within one group.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tonearm.errors import SourceError
from tonearm.wording import counted


def hold_out(classes: Sequence[str], share: float, seed: int, *, keep_each: bool) -> set[int]:
    """Return the numbers of the clips that are held out.

    Args:
        classes: what each clip is balanced by.
        share: between 0 and 1.
        keep_each: whether a clip of each class must be left to learn from; else any clip must.

    Raises:
        SourceError: too few would be left to learn from.
    """
    from sklearn.model_selection import train_test_split

    total, sizes = len(classes), Counter(classes)
    least = len(sizes) if keep_each else 1
    count = min(max(1, round(share * total)), total - least)
    if count < 1 or share * total - count > 1:
        most = max(0, total - least)
        raise SourceError(
            f"got --validation-share {share:g} of {counted(total, 'clip')}, which leaves "
            f"{total - round(share * total)} to learn "
            f"from, expected at least {least}{', one of each class' if keep_each else ''}; give {_below(most / total)} "
            "or less, or add clips"
        )
    # scikit-learn refuses to stratify where a side has fewer clips than there are classes.
    if len(sizes) <= min(count, total - count):
        _, held = train_test_split(range(total), test_size=count, stratify=classes, random_state=seed)
        held_out = set(held)
        sides = [{classes[number] for number in range(total) if (number in held_out) is side} for side in (True, False)]
        # Its rounding may leave a small class on one side alone.
        if not keep_each or all(len(side) == len(sizes) for side in sides):
            return held_out
    rng = np.random.default_rng(seed)
    left_to_take = _apportion(sizes, count, rng, keep_each=keep_each)
    held_out = set()
    for number in rng.permutation(total).tolist():
        if left_to_take[classes[number]]:
            left_to_take[classes[number]] -= 1
            held_out.add(number)
    return held_out


def _apportion(sizes: Mapping[str, int], count: int, rng: np.random.Generator, *, keep_each: bool) -> dict[str, int]:
    """Return how many of each class make ``count``, in proportion to its size; one of each where there are enough."""
    total, names = sum(sizes.values()), sorted(sizes)
    most = {name: sizes[name] - 1 if keep_each else sizes[name] for name in names}
    quota = {name: count * sizes[name] / total for name in names}
    first = 1 if count >= len(names) else 0
    taken = {name: min(most[name], max(first, int(quota[name]))) for name in names}
    chance = dict(zip(names, rng.random(len(names)), strict=True))
    while (missing := count - sum(taken.values())) != 0:
        step = 1 if missing > 0 else -1
        free = [name for name in names if (taken[name] < most[name] if step > 0 else taken[name] > first)]
        for name in sorted(free, key=lambda name: (step * (taken[name] - quota[name]), chance[name]))[: abs(missing)]:
            taken[name] += step
    return taken


def hold_out_groups(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> set[int]:
    """Return the numbers of the clips that are held out, every group whole on one side.

    Args:
        groups: each clip's; the others are as for ``hold_out``.

    Raises:
        SourceError: whole groups do not come near the share.
    """
    total, sizes = len(classes), Counter(groups)
    usual = total / len(sizes)

    def miss(held: set[int]) -> float:
        return abs(len(held) - share * total)

    def cost(held: set[int]) -> tuple[float, ...]:
        left = {classes[number] for number in range(total) if number not in held}
        seen = {classes[number] for number in held}
        num_classes = len({*left, *seen})
        lost = num_classes - len(left) if keep_each else not left
        return float(lost or not held), max(0.0, miss(held) - usual), num_classes - len(seen), miss(held)

    best: set[int] = set()
    for candidates in (_folds, _one_by_one):
        best = min([best, *candidates(classes, groups, share, seed, keep_each=keep_each)], key=cost)
        if cost(best)[:2] == (0, 0):
            break
    if cost(best)[0] or miss(best) > max(sizes.values()):
        raise SourceError(
            f"got --validation-share {share:g} of {counted(total, 'clip')} in {counted(len(sizes), 'group')}, but "
            f"whole groups that leave every class to learn from come to {len(best) / total:.2f} at the nearest; give "
            "another share, or leave --group-by out"
        )
    return best


def _folds(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> Iterator[set[int]]:
    """Yield each fold of scikit-learn's stratified ones, as many as the share asks for and every class has groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    of_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(classes, groups, strict=True):
        of_class[label].add(group)
    # A fold needs a group of every class, so a class of few groups limits the number of folds.
    count = max(2, min(round(1 / share), *(len(class_groups) for class_groups in of_class.values())))
    if count > max(Counter(classes).values()):
        return
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of a class with fewer clips than folds; here those are the clips without a label, which may be few.
        warnings.simplefilter("ignore")
        for _, held in splitter.split(classes, classes, groups):
            yield set(held.tolist())


def _one_by_one(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> Iterator[set[int]]:
    """Yield the groups that bring each class nearest to its share, then those that bring the whole nearest to it."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    counts = {group: Counter(classes[number] for number in numbers) for group, numbers in members.items()}
    sizes, target = Counter(classes), share * len(classes)
    order = [sorted(members)[index] for index in np.random.default_rng(seed).permutation(len(members))]
    # The largest first: the small ones then fill what is left of the share.
    order.sort(key=lambda group: -len(members[group]))
    held: set[str] = set()
    taken: Counter[str] = Counter()

    def gain(group: str) -> float:
        """Return how much nearer the classes of a group come to their shares with it."""
        return sum(
            (taken[label] - share * sizes[label]) ** 2 - (taken[label] + count - share * sizes[label]) ** 2
            for label, count in counts[group].items()
        )

    def is_nearer(change: int) -> bool:
        return abs(taken.total() + change - target) < abs(taken.total() - target)

    def may_go(group: str) -> bool:
        if not keep_each:
            return len(held) + 1 < len(members)
        return all(taken[label] + count < sizes[label] for label, count in counts[group].items())

    def take(group: str) -> None:
        held.add(group)
        taken.update(counts[group])

    for group in order:
        if gain(group) > 0 and is_nearer(len(members[group])) and may_go(group):
            take(group)
    for group in sorted((group for group in order if group not in held), key=lambda group: -gain(group)):
        if is_nearer(len(members[group])) and may_go(group):
            take(group)
    for group in [group for group in order if group in held]:
        if len(held) > 1 and is_nearer(-len(members[group])):
            held.remove(group)
            taken.subtract(counts[group])
    # Every group is larger than twice the share: the smallest that may go is held out, since one must be.
    if not held:
        for group in reversed(order):
            if may_go(group):
                take(group)
                break
    yield {number for group in held for number in members[group]}


def _below(share: float) -> str:
    return f"{int(100 * share) / 100:g}"
