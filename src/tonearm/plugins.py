"""What other packages add to tonearm: a model family, a source, an exporter; each by one entry point.

A package says ``[project.entry-points."tonearm.exporters"]`` and ``NAME = "package.module:Class"``. Nothing of it is
imported until NAME is asked for. tonearm's own names come first and cannot be taken; a name that two packages claim
belongs to neither. What is wrong with a package is one line that names it, for whoever asks for what it adds or uses
the name that it may not have; nobody else notices (``tonearm doctor`` lists it).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, NamedTuple, TypeVar, cast

from tonearm.errors import PluginError, TonearmError, first_line

Thing = TypeVar("Thing")


class Outside(NamedTuple, Generic[Thing]):
    """What other packages add: what can be used, by name, and a line for each thing that cannot."""

    usable: dict[str, Thing]
    problems: list[str]


class Registry(Generic[Thing]):
    """Things by name: tonearm's own and those of other packages.

    Args:
        group: of the entry points.
        noun: what messages call one of them.
        builtin: those that are part of tonearm, by name.
        contract: the Protocol; a thing from outside must have all of its members.
        make: what is made of the class that an entry point names; the class itself by default.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        builtin: Mapping[str, Thing],
        contract: type,
        make: Callable[[type], object] = lambda kind: kind,
    ) -> None:
        self.group, self.noun, self.builtin, self.contract, self.make = group, noun, builtin, contract, make
        self._loaded: dict[str, Thing] = {}

    def get(self, name: str) -> Thing | None:
        """Return what is called ``name``; None where there is nothing of that name.

        Raises:
            PluginError: the package that has it cannot be used, or several claim the name.
        """
        if name in self.builtin:
            return self.builtin[name]
        if name not in self._loaded:
            claims = _installed(self.group).get(name)
            if claims is None:
                return None
            self._loaded[name] = self._load(name, claims)
        return self._loaded[name]

    def names(self) -> list[str]:
        """Return every name: tonearm's own, then those of other packages, loaded or not."""
        return [*self.builtin, *(name for name in _installed(self.group) if name not in self.builtin)]

    def refused_claim(self, name: str) -> str | None:
        """Return the line for a package that claims tonearm's own ``name``, None without one; loads nothing."""
        claims = _installed(self.group).get(name, ())
        if name not in self.builtin or not claims:
            return None
        return (
            f"the {self.noun} {name!r} is tonearm's own; {_packages(claims)} may not take its name and is not used; it "
            "needs another name"
        )

    def outside(self) -> Outside[Thing]:
        """Load what other packages add."""
        usable: dict[str, Thing] = {}
        problems = []
        for name in _installed(self.group):
            try:
                if (taken := self.refused_claim(name)) is not None:
                    raise PluginError(taken)
                usable[name] = cast(Thing, self.get(name))
            except PluginError as error:
                problems.append(error.message)
        return Outside(usable, problems)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Have what a thing from outside raises in the block say whose it is; tonearm's own raise as they are.

        Raises:
            PluginError: for any error that is not one of tonearm's.
        """
        if name in self.builtin or name not in _installed(self.group):
            yield
            return
        with self._blaming(name, _packages(_installed(self.group)[name]), "failed"):
            yield

    @contextlib.contextmanager
    def _blaming(self, name: str, package: str, what: str) -> Iterator[None]:
        try:
            yield
        except TonearmError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"the {self.noun} {name!r} of the package {package} {what} "
                f"({type(error).__name__}: {first_line(error)}); update the package, or uninstall it"
            ) from error

    def _load(self, name: str, claims: tuple[EntryPoint, ...]) -> Thing:
        if len(claims) > 1:
            raise PluginError(
                f"the {self.noun} {name!r} is claimed by {_packages(claims)}; uninstall all of them but one"
            )
        package = _packages(claims)
        with self._blaming(name, package, "cannot be loaded"):
            made = self.make(claims[0].load())
        # A Protocol's attributes without a value are only among its annotations.
        members = (*vars(self.contract), *getattr(self.contract, "__annotations__", ()))
        # Here the package can be named; later it would be an AttributeError in the middle of a run.
        if missing := sorted(member for member in members if member[0] != "_" and not hasattr(made, member)):
            raise PluginError(
                f"the {self.noun} {name!r} of the package {package} lacks {', '.join(missing)}; "
                "update the package, or uninstall it"
            )
        return cast(Thing, made)


def _packages(claims: tuple[EntryPoint, ...]) -> str:
    return " and ".join(f"{claim.dist.name} {claim.dist.version}" if claim.dist else claim.value for claim in claims)


@functools.cache
def _installed(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name. Reading every package's takes some 40 ms, so it is done once."""
    claims_by_name: dict[str, tuple[EntryPoint, ...]] = {}
    for claim in sorted(entry_points(group=group), key=lambda claim: (claim.name, claim.value)):
        claims_by_name[claim.name] = (*claims_by_name.get(claim.name, ()), claim)
    return claims_by_name
