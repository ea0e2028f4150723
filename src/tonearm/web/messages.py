"""What travels over HTTP, as pydantic models: the server checks by them, /docs shows them, the client returns them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, RootModel

Function = Literal["softmax", "sigmoid", "none"]
Score = Annotated[float, Field(description="A probability, unless function_to_apply is none.")]


class Label(BaseModel):
    """One label and its score."""

    label: str
    score: Score


class Labels(RootModel[list[Label]]):
    """What one head says, the highest score first."""


class Parameters(BaseModel):
    """The Hugging Face ``parameters`` of audio classification."""

    model_config = ConfigDict(extra="forbid")

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="How many labels; 5 by default."
    )
    function_to_apply: Function | None = Field(
        default=None, description="softmax for the genre and sigmoid for the tags by default."
    )


class ClassifyRequest(BaseModel):
    """The Hugging Face contract's JSON body."""

    model_config = ConfigDict(extra="forbid")

    inputs: str = Field(description="The file's bytes as base64, or as a data URL; never a path or another URL.")
    parameters: Parameters | None = None
    options: dict[str, object] | None = Field(default=None, description="Taken for compatibility, and ignored.")


class FormFields(BaseModel):
    """What a form may ask besides the file in it; other fields are ignored."""

    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="As in `parameters`, for /models alone."
    )
    function_to_apply: Function | None = Field(default=None, description="As in `parameters`, for /models alone.")
    max_windows: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(default=None, description="As in the query.")
    parameters: Json[Parameters] | None = Field(
        default=None, description="The Hugging Face `parameters` as JSON, instead of the fields of their names."
    )

    def with_parameters(self) -> FormFields:
        """Return what is asked in fields and in ``parameters`` together.

        Raises:
            ValueError: both ask the same, and differently.
        """
        inner, asked = self.parameters or Parameters(), {}
        for name in Parameters.model_fields:
            given = [value for value in (getattr(self, name), getattr(inner, name)) if value is not None]
            if len(set(given)) > 1:
                raise ValueError(f"{name} is {given[0]} and, in parameters, {given[1]}, expected one")
            asked[name] = given[0] if given else None
        return self.model_copy(update=asked)


class Tag(BaseModel):
    """One tag of a track."""

    label: str
    score: float = Field(description="The mean over windows.")
    max_score: float = Field(description="The score of its best window.")
    max_start_s: float = Field(description="Where its best window starts.")


class Window(BaseModel):
    """One stretch of the timeline."""

    start_s: float
    end_s: float
    genre: str | None
    genre_score: float | None
    tags: list[Label]


class HeadWindow(BaseModel):
    """One stretch of a head's own timeline: its best label, or of several independent labels the best ones."""

    start_s: float
    end_s: float
    label: str | None = None
    score: float | None = None
    tags: list[Label] | None = None


class HeadResult(BaseModel):
    """What one head besides genre and tags says of a track: a label with all scores, or tags, or neither."""

    label: str | None = None
    score: float | None = None
    scores: list[Label] | None = None
    tags: list[Tag] | None = None
    windows: list[HeadWindow] | None = None
    embedding: list[float] | None = Field(default=None, description="Only with ?embeddings=true.")
    model: str


class TrackResult(BaseModel):
    """What the heads say of one track: the columns of ``tracks/`` that a file's bytes decide."""

    duration_s: float
    coverage: float = Field(description="The share of the duration that every head has scored.")
    silent: bool = Field(default=False, description="Nothing of it is louder than -60 dB of full scale.")
    sample_rate: int
    channels: int
    codec: str
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    genre_score: float | None = None
    genre_scores: list[Label] | None = None
    tags: list[Tag] | None = None
    windows: list[Window]
    genre_embedding: list[float] | None = Field(default=None, description="Only with ?embeddings=true.")
    tag_embedding: list[float] | None = Field(default=None, description="Only with ?embeddings=true.")
    genre_model: str | None = None
    tag_model: str | None = None
    heads: dict[str, HeadResult] = Field(default={}, description="What the server's other heads say, by name.")
    tonearm_version: str


class HeadEmbedding(BaseModel):
    """A track's embedding of one head."""

    embedding: list[float]
    model: str


class Embeddings(BaseModel):
    """A track's embeddings: the mean over its windows."""

    duration_s: float
    coverage: float
    genre_embedding: list[float] | None
    tag_embedding: list[float] | None
    genre_model: str | None
    tag_model: str | None
    heads: dict[str, HeadEmbedding] = Field(default={}, description="Those of the server's other heads, by name.")


class BulkRequest(BaseModel):
    """URIs to tag."""

    model_config = ConfigDict(extra="forbid")

    uris: list[str] = Field(min_length=1)
    max_windows: Annotated[int, Field(ge=1, strict=True)] | None = None


class BulkLine(BaseModel):
    """One line of a bulk answer: a URI's result, or why there is none."""

    uri: str
    status: Literal["ok", "error"]
    error_code: str | None = None
    error_message: str | None = None
    result: TrackResult | None = None


class View(BaseModel):
    """What the page draws of a track: every picture spans the whole track."""

    duration_s: float
    codec: str
    sample_rate: int
    channels: int
    title: str | None
    artist: str | None
    peaks: list[tuple[float, float]] = Field(description="Lowest and highest sample of equal stretches, in [-1, 1].")
    spectrogram: str = Field(description="A PNG as a data URL; time to the right, 0 Hz at the bottom.")
    mel: str = Field(description="A PNG as a data URL; time to the right, 0 Hz at the bottom, mel bands.")
    max_hz: float = Field(description="The frequency at the pictures' upper edge.")


class RunsOn(BaseModel):
    """What computes a model's scores."""

    runtime: str
    precision: str
    device: str
    passes: str = Field(default="", description="On a GPU `graphs` or `eager`.")
    note: str = Field(default="", description="Why it is not what was asked for, such as a failed check of a GPU.")


class Head(BaseModel):
    """One model that is served."""

    name: str
    checkpoint: str
    revision: str
    family: str
    labels: list[str]
    sample_rate: int
    window_s: float
    embedding_dim: int
    activation: Literal["single", "multi", "embedding"] = Field(
        default="single", description="One label per track, any number of independent ones, or an embedding alone."
    )
    function_to_apply: Function
    telling_weights: dict[str, float] = Field(
        default={}, description="How much of a label's score counts where labels are ranked for people; else all of it."
    )
    is_demo: bool = Field(default=False, description="A demo model: its labels are not to be trusted for real music.")
    runs_on: RunsOn | None = Field(default=None, description="None while the model does not answer.")


class Health(BaseModel):
    """Whether each model answers: ``ok``, or why not."""

    status: Literal["ok", "unavailable"]
    models: dict[str, str]


class ErrorBody(BaseModel):
    """Why a request failed."""

    error: str = Field(description="What was got and what was expected.")
    code: str = Field(description="A stable word for programs.")
    hint: str = Field(description="What to do.")
    request_id: str
