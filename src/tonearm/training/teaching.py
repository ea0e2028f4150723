"""A teacher and its student: what they are, what they cost, and whether the one can learn from the other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from tonearm.audio.windows import WindowPlan
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import CONFIG_FILES, CheckpointInfo, is_hub_id, resolve
from tonearm.models.config_files import LIBRARY_ERRORS
from tonearm.models.cost import Cost, cost_of
from tonearm.models.exported import cost as exported_cost
from tonearm.models.families import FAMILIES, family_of
from tonearm.models.transformers_loader import load_extractor, new_model, read_config
from tonearm.settings import DistillSettings
from tonearm.training.fit.architectures import is_architecture
from tonearm.training.fit.initial import PLACEHOLDER, InitialModel, read_initial_model
from tonearm.training.fit.initial_weights import Classifier, EmptyModel, empty_model, features_of
from tonearm.wording import counted

CARD, LICENCE = "README.md", "LICENSE"


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A model whose scores another model is trained on.

    Attributes:
        labels: in the order of its scores.
        windows: those that it scores.
        licence: as its files name it; None if they name none.
        multiply_adds: of one window; None where they cannot be counted.
    """

    name: str
    revision: str
    labels: tuple[str, ...]
    is_multi: bool
    windows: WindowPlan
    licence: str | None
    num_parameters: int | None
    multiply_adds: int | None


@dataclasses.dataclass(frozen=True)
class Student:
    """A model that is trained on a teacher's scores.

    Attributes:
        windows: the same seconds as the teacher's windows, at the student's sample rate.
        cost: of one window.
        empty: the model with its classifier, without weights.
    """

    initial: InitialModel
    windows: WindowPlan
    cost: Cost
    empty: EmptyModel


def read_teacher(source: str, info: CheckpointInfo, windows: WindowPlan) -> Teacher:
    """Return what distillation needs to know about the teacher.

    Args:
        source: a folder, here or in an object store, or a hub id.

    Raises:
        CheckpointError: it has no labels of its own.
    """
    if all(label.startswith(PLACEHOLDER) for label in info.labels):
        raise CheckpointError(
            f"{source} names none of its {counted(len(info.labels), 'label')} ({info.labels[0]}, ...), so a student "
            "could say nothing; give a model whose config.json has id2label, or describe it with `tonearm models add`"
        )
    folder = resolve(source, revision=info.revision if is_hub_id(source) else None, patterns=[*CONFIG_FILES, CARD])
    return Teacher(
        info.name,
        info.revision,
        info.labels,
        info.multi_label,
        windows,
        _read_licence(info, folder),
        info.num_parameters,
        _count_multiply_adds(info, folder, windows),
    )


def _count_multiply_adds(info: CheckpointInfo, folder: Path, windows: WindowPlan) -> int | None:
    if info.digest is not None and info.sidecar.model is not None:
        return exported_cost.multiply_adds(info.digest, info.sidecar.model)
    # The model has shapes and no values, so a family whose code reads values fails here and is not counted.
    try:
        model = new_model(read_config(folder, info.name), info.name, is_empty=True)
        with FAMILIES.using(info.family):
            features = family_of(info.family).features(load_extractor(folder))  # type: ignore[arg-type]
        return cost_of(model, features, windows.window_samples).multiply_adds
    except LIBRARY_ERRORS:
        return None


def _read_licence(info: CheckpointInfo, folder: Path) -> str | None:
    """Return the licence: from the graph's description, else from the card's metadata or LICENSE's first line."""
    if info.sidecar.model is not None:
        return info.sidecar.model.licence
    card, licence = folder / CARD, folder / LICENCE
    if card.is_file() and (text := card.read_text(errors="replace")).startswith("---\n"):
        try:
            values = yaml.safe_load(text[4:].partition("\n---")[0])
        except yaml.YAMLError:
            values = None
        if isinstance(values, dict) and values.get("license"):
            return str(values["license"])
    if licence.is_file():
        lines = [line.strip() for line in licence.read_text(errors="replace").splitlines() if line.strip()]
        return lines[0][:80] if lines else None
    return None


def read_student(teacher: Teacher, settings: DistillSettings) -> tuple[Student, DistillSettings]:
    """Return the student, and the settings with ``from_scratch`` and ``window_s`` filled in.

    Raises:
        CheckpointError: no such model, one that cannot take the teacher's windows, or one that is no smaller.
    """
    from_scratch = settings.from_scratch or (is_architecture(settings.model) and not Path(settings.model).is_dir())
    window_s = teacher.windows.window_s
    settings = dataclasses.replace(settings, from_scratch=from_scratch, window_s=window_s)
    initial = read_initial_model(settings.model, revision=settings.revision, from_scratch=from_scratch)
    windows = windows_at(initial, teacher)
    head = Classifier(teacher.labels, teacher.is_multi, window_s)
    empty = empty_model(initial, head)
    cost = cost_of(empty.model, features_of(initial, empty.extractor), windows.window_samples)  # type: ignore[arg-type]
    check_smaller(initial.name, cost, teacher)
    return Student(initial, windows, cost, empty), settings


def windows_at(initial: InitialModel, teacher: Teacher) -> WindowPlan:
    """Return the teacher's windows, the same seconds, at the student's sample rate.

    Raises:
        CheckpointError: the student cannot take them.
    """
    plan, rate, window_s = teacher.windows, initial.sample_rate, teacher.windows.window_s
    samples, native = round(window_s * rate), initial.native_window_s
    if native is not None and not initial.from_scratch and samples > round(native * rate):
        raise CheckpointError(
            f"{initial.name} takes at most {native:g} s at once, and the windows of {teacher.name} have "
            f"{window_s:g} s; give --window-s {native:g}, or a student that begins with random weights"
        )
    if samples < initial.min_samples:
        raise CheckpointError(
            f"{initial.name} takes at least {initial.min_samples / rate:g} s at once, and the windows of "
            f"{teacher.name} have {window_s:g} s; give another student"
        )
    hop = max(1, round(plan.hop_samples * rate / plan.sample_rate))
    return WindowPlan(rate, samples, hop, plan.max_windows, initial.min_samples)


def check_smaller(name: str, cost: Cost, teacher: Teacher) -> None:
    """Refuse a student that costs as much as its teacher: in multiply-adds or, where not known, in parameters.

    Raises:
        CheckpointError: with both numbers.
    """
    if teacher.multiply_adds is not None:
        student_cost, teacher_cost = cost.multiply_adds / 1e6, teacher.multiply_adds / 1e6
        unit = "million multiply-adds a window"
    elif teacher.num_parameters is not None:
        student_cost, teacher_cost = cost.num_parameters / 1e6, teacher.num_parameters / 1e6
        unit = "million parameters"
    else:
        return
    if student_cost >= teacher_cost:
        raise CheckpointError(
            f"the student {name} has {student_cost:,.1f} {unit} and its teacher {teacher.name} {teacher_cost:,.1f}: "
            "it would cost no less; give a smaller student, such as mn04"
        )
