"""Choose the clips that are held out of a collection: a share, balanced by class, in whole groups if there are any.

The number of held-out clips is within one clip of the requested share, or within one group if groups are kept whole.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tonearm.errors import SourceError
from tonearm.wording import counted


def hold_out(classes: Sequence[str], share: float, seed: int, *, keep_each: bool) -> set[int]:
    """Return the positions of the clips that are held out.

    Args:
        classes: the class of each clip; the held-out clips have about the same mix.
        share: between 0 and 1.
        keep_each: whether training must keep a clip of each class; otherwise it must keep any clip.

    Raises:
        SourceError: too few clips would be left for training.
    """
    from sklearn.model_selection import train_test_split

    total, class_sizes = len(classes), Counter(classes)
    min_left = len(class_sizes) if keep_each else 1
    count = min(max(1, round(share * total)), total - min_left)
    if count < 1 or share * total - count > 1:
        max_held_out = max(0, total - min_left)
        raise SourceError(
            f"got --validation-share {share:g} of {counted(total, 'clip')}, which leaves "
            f"{total - round(share * total)} to learn "
            f"from, expected at least {min_left}{', one of each class' if keep_each else ''}; give "
            f"{_round_down(max_held_out / total)} or less, or add clips"
        )
    # scikit-learn refuses to stratify if a side has fewer clips than there are classes.
    if len(class_sizes) <= min(count, total - count):
        _, held_numbers = train_test_split(range(total), test_size=count, stratify=classes, random_state=seed)
        held_out = set(held_numbers)
        sides = [{classes[number] for number in range(total) if (number in held_out) is side} for side in (True, False)]
        # Rounding may put all clips of a small class on one side; then apportion below instead.
        if not keep_each or all(len(side) == len(class_sizes) for side in sides):
            return held_out
    rng = np.random.default_rng(seed)
    left_to_take = _apportion(class_sizes, count, rng, keep_each=keep_each)
    held_out = set()
    for number in rng.permutation(total).tolist():
        if left_to_take[classes[number]]:
            left_to_take[classes[number]] -= 1
            held_out.add(number)
    return held_out


def _apportion(sizes: Mapping[str, int], count: int, rng: np.random.Generator, *, keep_each: bool) -> dict[str, int]:
    """Return how many clips of each class to take, ``count`` in all, in proportion to the classes' sizes.

    Takes at least one of each class if ``count`` allows.
    """
    total, names = sum(sizes.values()), sorted(sizes)
    max_taken = {name: sizes[name] - 1 if keep_each else sizes[name] for name in names}
    quotas = {name: count * sizes[name] / total for name in names}
    min_taken = 1 if count >= len(names) else 0
    taken = {name: min(max_taken[name], max(min_taken, int(quotas[name]))) for name in names}
    tie_breakers = dict(zip(names, rng.random(len(names)), strict=True))
    # Rounding down leaves some to take; the class furthest below its quota goes first, ties at random.
    while (missing := count - sum(taken.values())) != 0:
        step = 1 if missing > 0 else -1
        adjustable = [
            name for name in names if (taken[name] < max_taken[name] if step > 0 else taken[name] > min_taken)
        ]
        for name in sorted(adjustable, key=lambda name: (step * (taken[name] - quotas[name]), tie_breakers[name]))[
            : abs(missing)
        ]:
            taken[name] += step
    return taken


def hold_out_groups(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> set[int]:
    """Return the positions of the clips that are held out, with each group on one side only.

    Args:
        groups: the group of each clip; the other arguments are those of ``hold_out``.

    Raises:
        SourceError: no choice of whole groups comes near the share.
    """
    total, group_sizes = len(classes), Counter(groups)
    mean_group_size = total / len(group_sizes)

    def miss(held_out: set[int]) -> float:
        return abs(len(held_out) - share * total)

    def cost(held_out: set[int]) -> tuple[float, ...]:
        classes_left = {classes[number] for number in range(total) if number not in held_out}
        classes_held_out = {classes[number] for number in held_out}
        num_classes = len({*classes_left, *classes_held_out})
        classes_lost = num_classes - len(classes_left) if keep_each else not classes_left
        return (
            float(classes_lost or not held_out),
            max(0.0, miss(held_out) - mean_group_size),
            num_classes - len(classes_held_out),
            miss(held_out),
        )

    # Folds balance all classes at once, but their number is limited; the greedy choice meets any share.
    best: set[int] = set()
    for candidates in (_stratified_folds, _greedy_groups):
        best = min([best, *candidates(classes, groups, share, seed, keep_each=keep_each)], key=cost)
        if cost(best)[:2] == (0, 0):
            break
    if cost(best)[0] or miss(best) > max(group_sizes.values()):
        raise SourceError(
            f"got --validation-share {share:g} of {counted(total, 'clip')} in {counted(len(group_sizes), 'group')}, "
            f"but whole groups that leave every class to learn from come to {len(best) / total:.2f} at the nearest; "
            "give another share, or leave --group-by out"
        )
    return best


def _stratified_folds(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> Iterator[set[int]]:
    """Yield scikit-learn's stratified folds, each about the share in size, or larger if a class has few groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups_by_class: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(classes, groups, strict=True):
        groups_by_class[label].add(group)
    # A fold needs a group of every class, so a class of few groups limits the number of folds.
    num_folds = max(2, min(round(1 / share), *(len(class_groups) for class_groups in groups_by_class.values())))
    if num_folds > max(Counter(classes).values()):
        return
    splitter = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns about a class with fewer clips than folds; here that is the class of clips without a label.
        warnings.simplefilter("ignore")
        for _, fold in splitter.split(classes, classes, groups):
            yield set(fold.tolist())


def _greedy_groups(
    classes: Sequence[str], groups: Sequence[str], share: float, seed: int, *, keep_each: bool
) -> Iterator[set[int]]:
    """Yield one choice: first the groups that bring each class nearer to its share, then those for the total."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    counts = {group: Counter(classes[number] for number in numbers) for group, numbers in members.items()}
    class_sizes, target = Counter(classes), share * len(classes)
    order = [sorted(members)[index] for index in np.random.default_rng(seed).permutation(len(members))]
    # The largest first, so that small groups can fill the rest of the share.
    order.sort(key=lambda group: -len(members[group]))
    held_groups: set[str] = set()
    taken: Counter[str] = Counter()

    def gain(group: str) -> float:
        """Return how much nearer the classes of a group come to their shares with it."""
        return sum(
            (taken[label] - share * class_sizes[label]) ** 2 - (taken[label] + count - share * class_sizes[label]) ** 2
            for label, count in counts[group].items()
        )

    def is_nearer(change: int) -> bool:
        return abs(taken.total() + change - target) < abs(taken.total() - target)

    def may_go(group: str) -> bool:
        if not keep_each:
            return len(held_groups) + 1 < len(members)
        return all(taken[label] + count < class_sizes[label] for label, count in counts[group].items())

    def take(group: str) -> None:
        held_groups.add(group)
        taken.update(counts[group])

    for group in order:
        if gain(group) > 0 and is_nearer(len(members[group])) and may_go(group):
            take(group)
    for group in sorted((group for group in order if group not in held_groups), key=lambda group: -gain(group)):
        if is_nearer(len(members[group])) and may_go(group):
            take(group)
    for group in [group for group in order if group in held_groups]:
        if len(held_groups) > 1 and is_nearer(-len(members[group])):
            held_groups.remove(group)
            taken.subtract(counts[group])
    # Every group is larger than twice the share. One must be held out, so take the smallest that may go.
    if not held_groups:
        for group in reversed(order):
            if may_go(group):
                take(group)
                break
    yield {number for group in held_groups for number in members[group]}


def _round_down(share: float) -> str:
    return f"{int(100 * share) / 100:g}"
