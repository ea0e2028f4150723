"""Heads as data: what a model's job is called, how its logits become labels, and which columns it fills.

``genre`` and ``tags`` have the columns that were published for them; every other head has them named after itself::

    single     NAME, NAME_score, NAME_scores, NAME_windows, NAME_embedding, NAME_model   one label per track (softmax)
    multi      NAME_tags, NAME_windows, NAME_embedding, NAME_model                       any number of labels (sigmoid)
    embedding  NAME_embedding, NAME_model                                                no labels

and ``NAME_settings`` for all of them: by which settings a row has these columns. So which heads some rows have can be
read from the names of their columns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from annotated_types import Ge, Gt, Le, Lt

from tonearm.errors import PluginError, SettingsError
from tonearm.plugins import Registry

Activation = Literal["single", "multi", "embedding"]
ACTIVATIONS: tuple[Activation, ...] = ("single", "multi", "embedding")
NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME = 40

# Columns of every row, of signals that a row may get, and words that commands take for something else.
RESERVED = frozenset(
    """
    track track_key uri etag size_bytes modified status error_code error_message duration_s coverage
    sample_rate channels codec title artist album genre genre_score genre_scores tag tags windows
    genre_embedding tag_embedding genre_model tag_model tonearm_version run run_id term read read_settings
    genre_settings tag_settings silent silence_share loudness_lufs true_peak_dbfs clipped_share dc_offset
    bandwidth_hz lossy_source tempo_bpm tempo_confidence key key_confidence acoustic_fingerprint audio_hash
    signals heads models all none old top_tags
    """.split()  # noqa: SIM905  one a line would be fifty lines
)


@dataclasses.dataclass(frozen=True)
class Head:
    """One head, without its model.

    Attributes:
        label, score, scores: columns of the winning label, its score, and all labels by score; for ``single``.
        tags: the column of the strongest labels, each with where it was strongest; for ``multi``.
        windows: the column of its own timeline; None for ``embedding`` and for the two that share ``windows``.
        settings: the column that says by which settings a row has the others.
        prefix: what its flag and its settings begin with; None where it is one of ``--head``.
    """

    name: str
    activation: Activation
    embedding: str
    model: str
    settings: str
    label: str | None = None
    score: str | None = None
    scores: str | None = None
    tags: str | None = None
    windows: str | None = None
    prefix: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of what it says of a track, in their order, without ``settings``."""
        named = (self.label, self.score, self.scores, self.tags, self.windows, self.embedding, self.model)
        return tuple(name for name in named if name is not None)

    @property
    def is_published(self) -> bool:
        """Whether its columns are among those that every row has."""
        return self.prefix is not None

    @property
    def is_multi(self) -> bool:
        """Whether its labels are read independently."""
        return self.activation == "multi"

    def flag(self, source: str) -> str:
        """Return the flag, as a shell takes it, that gives this head a model."""
        if self.prefix is not None:
            return f"--{self.prefix}-model {shlex.quote(source)}"
        return f"--head {shlex.quote(f'{self.name}={source}:{self.activation}')}"

    def setting(self, name: str) -> str:
        """Return what a settings file calls ``revision`` or ``window_s`` of this head."""
        return f"models.{self.prefix}_{name}" if self.prefix is not None else f"models.heads.{self.name}.{name}"


GENRE = Head(
    "genre",
    "single",
    embedding="genre_embedding",
    model="genre_model",
    settings="genre_settings",
    label="genre",
    score="genre_score",
    scores="genre_scores",
    prefix="genre",
)
TAGS = Head(
    "tags",
    "multi",
    embedding="tag_embedding",
    model="tag_model",
    settings="tag_settings",
    tags="tags",
    prefix="tag",
)
# In the order in which they score a track.
PUBLISHED: Mapping[str, Head] = {head.name: head for head in (GENRE, TAGS)}


@functools.lru_cache(maxsize=256)
def head_of(name: str, activation: Activation) -> Head:
    """Return the head of this name; for ``genre`` and ``tags`` the published one, whatever the activation."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    is_single, is_multi = activation == "single", activation == "multi"
    return Head(
        name,
        activation,
        embedding=f"{name}_embedding",
        model=f"{name}_model",
        settings=f"{name}_settings",
        label=name if is_single else None,
        score=f"{name}_score" if is_single else None,
        scores=f"{name}_scores" if is_single else None,
        tags=f"{name}_tags" if is_multi else None,
        windows=f"{name}_windows" if is_single or is_multi else None,
    )


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no head can have.

    Raises:
        SettingsError: a name of other letters, one that is taken, or two heads whose columns would collide.
    """
    taken: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise SettingsError(
                f"got a head called {name!r:.60}, expected a name of at most {MAX_NAME} small letters, digits and _ "
                "that begins with a letter, such as mood"
            )
        # What kind it is may only be known once its model is read, so the columns of no kind may be taken.
        possible = {name, *(column for activation in ACTIVATIONS for column in _all_columns(name, activation))}
        if known := sorted(possible & RESERVED):
            what = "which is taken" if name in RESERVED else f"whose column {known[0]} is taken"
            raise SettingsError(f"got a head called {name}, {what}; give it another name, such as {name}_head")
        for column in sorted(possible):
            if column in taken:
                raise SettingsError(
                    f"got heads called {taken[column]} and {name}, which would share the column {column}; give one of "
                    "them another name"
                )
            taken[column] = name


def _all_columns(name: str, activation: Activation) -> tuple[str, ...]:
    head = head_of(name, activation)
    return (*head.columns, head.settings)


def heads_among(columns: Collection[str]) -> tuple[Head, ...]:
    """Return the heads, other than the published ones, whose columns are all among ``columns``, in their order."""
    suffix = "_settings"
    there = set(columns)
    heads = []
    for column in columns:
        name = column.removesuffix(suffix)
        if name == column or column in RESERVED or not NAME.fullmatch(name):
            continue
        for activation in ACTIVATIONS:
            if there.issuperset(_all_columns(name, activation)):
                heads.append(head_of(name, activation))
                break
    return tuple(heads)


def by_name(*groups: Iterable[Head]) -> dict[str, Head]:
    """Return all heads by their name, each where it came first."""
    heads: dict[str, Head] = {}
    for group in groups:
        for head in group:
            heads.setdefault(head.name, head)
    return heads


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """One head: which model it has, and how that is read.

    Attributes:
        model: a folder or hub id.
        activation: ``single``, ``multi`` or ``embedding``; None for what the model's own config says of its labels.
        revision: commit, tag or branch of a hub id; its main branch by default.
        window_s: seconds of a window; the model's own by default.
    """

    model: str
    activation: Activation | None = None
    revision: str | None = None
    window_s: Annotated[float, Gt(0), Lt(math.inf)] | None = None

    @classmethod
    def parse(cls, text: str, where: str) -> HeadSettings:
        """Return the head that ``MODEL[:single|multi|embedding]`` stands for.

        Args:
            where: what messages call the place, such as ``--head mood``.

        Raises:
            SettingsError: no model, or another word behind the colon.
        """
        model, colon, word = text.rpartition(":")
        # Only a known word behind the last colon is a kind: s3:// has a colon too, and a folder may.
        if colon and word in ACTIVATIONS:
            text = model
        elif colon and re.fullmatch(r"[a-z-]+", word) and not Path(text).exists():
            raise SettingsError(
                f"{where}: got {word!r} behind the colon, expected {', '.join(ACTIVATIONS[:-1])} or {ACTIVATIONS[-1]}"
            )
        if not text:
            raise SettingsError(f"{where}: got no model; give a folder or a hub id")
        activation = next((known for known in ACTIVATIONS if colon and known == word), None)
        return cls(text, activation)


@dataclasses.dataclass(frozen=True)
class FallbackSettings:
    """The model that windows go to of which a head's own model is unsure.

    Attributes:
        model: a folder or hub id.
        threshold: windows without a score of at least this go there; what the head's model says of itself by default.
        revision: commit, tag or branch of a hub id; its main branch by default.
    """

    model: str
    threshold: Annotated[float, Ge(0), Le(1)] | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, where: str) -> FallbackSettings:
        """Return the fallback that ``MODEL[:THRESHOLD]`` stands for.

        Raises:
            SettingsError: no model, or a threshold that no score can be.
        """
        model, colon, number = text.rpartition(":")
        threshold = None
        # s3:// has a colon too, and a folder may.
        if colon and "/" not in number and not Path(text).exists():
            try:
                threshold = float(number)
            except ValueError:
                threshold = math.nan
            if not 0 <= threshold <= 1:
                raise SettingsError(f"{where}: got the threshold {number!r}, expected a score from 0 to 1")
            text = model
        if not text:
            raise SettingsError(f"{where}: got no model; give a folder or a hub id")
        return cls(text, threshold)


class InstalledHead(Protocol):
    """A head that a package brings along with its model, so that ``--head NAME`` alone is enough.

    The package names the class by an entry point of the group ``tonearm.heads``; the entry point's name is the head's.
    tonearm makes one without arguments, in the process that plans a run, and loads the model as it loads any other.

    Attributes:
        activation: what the model's logits mean; None for what its config says.
    """

    activation: Activation | None

    def model(self) -> str:
        """Return the model: a folder, usually one that the package holds, or a hub id."""
        ...


INSTALLED: Registry[InstalledHead] = Registry("tonearm.heads", "head", {}, InstalledHead, lambda kind: kind())


def installed(name: str) -> HeadSettings | None:
    """Return the head of this name that a package brings along; None where there is none.

    Raises:
        PluginError: the package cannot be used.
    """
    head = INSTALLED.get(name)
    if head is None:
        return None
    with INSTALLED.using(name):
        model, activation = head.model(), head.activation
    if activation is not None and activation not in ACTIVATIONS:
        raise PluginError(
            f"the head {name!r} has the activation {activation!r}, expected {', '.join(ACTIVATIONS)} or None; "
            "update its package, or uninstall it"
        )
    return HeadSettings(model, activation)


def read_heads(values: object, where: str, build: Callable[..., HeadSettings]) -> dict[str, HeadSettings]:
    """Return the heads of a table ``[models.heads]``.

    It has ``NAME = "MODEL[:ACTIVATION]"``, or a table ``[models.heads.NAME]`` with the fields of ``HeadSettings``;
    ``"none"`` turns a head off. An empty model is that of a package which brings the head along.

    Args:
        where: what messages call the table.
        build: makes a ``HeadSettings`` of a table; ``settings.build`` for it.

    Raises:
        SettingsError: a name that no head can have, or no model.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: got {values!r}, expected a table of heads by name")
    check_names(values)
    heads = {}
    for name, value in values.items():
        if value == "" or (isinstance(value, Mapping) and not value.get("model")):
            brought = installed(name)
            if brought is None:
                raise SettingsError(
                    f"{where}: the head {name} has no model, and no installed package brings one along; give its "
                    "folder or hub id"
                )
            value = dataclasses.asdict(brought) | dict(value or {}, model=brought.model)
        if isinstance(value, HeadSettings):
            heads[name] = value
        elif isinstance(value, Mapping):
            heads[name] = build(value, where=f"{where}, [{name}]")
        elif not isinstance(value, str):
            raise SettingsError(f"{where}: {name}: got {value!r}, expected a model or a table of settings")
        elif value != "none":
            heads[name] = HeadSettings.parse(value, f"{where}: {name}")
    return heads


def read_flags(texts: Iterable[str]) -> dict[str, str]:
    """Return what ``--head NAME=MODEL[:ACTIVATION]``, repeated, puts into the table ``[models.heads]``.

    ``--head NAME`` alone is a head that an installed package brings along (``InstalledHead``).

    Raises:
        SettingsError: no such form, or one name twice.
    """
    models: dict[str, str] = {}
    for text in texts:
        name, equals, model = text.partition("=")
        if not name or (equals and not model):
            raise SettingsError(f"got --head {text!r}, expected NAME=MODEL[:single|multi|embedding]")
        if not equals:
            brought = installed(name)
            if brought is None:
                raise SettingsError(
                    f"got --head {text!r}, expected NAME=MODEL[:single|multi|embedding]; no installed package brings a "
                    f"head {name} along"
                )
            model = brought.model if brought.activation is None else f"{brought.model}:{brought.activation}"
        if name in models:
            raise SettingsError(f"got --head {name}= twice; give each head a name of its own")
        models[name] = model
    return models
