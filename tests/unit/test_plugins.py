"""Families, sources and exporters of other packages: installed, used, and what is said when they are broken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import clips
from tests.labelled import loop_of, planned, train_settings, write_folders
from tests.tables import make_tracks
from tests.toys import TOY, install_toy, lay_out
from tonearm import demo, plugins
from tonearm.api.doctor import _added
from tonearm.cli.app import app
from tonearm.distributed.tagging.plans import refused_claims
from tonearm.errors import FetchError, PluginError, SettingsError, SourceError, UsageError
from tonearm.exports.export import export
from tonearm.exports.registry import EXPORTERS
from tonearm.heads import INSTALLED, HeadSettings, read_flags
from tonearm.models.checkpoint import describe_checkpoint
from tonearm.models.classifier import Classifier
from tonearm.models.families import FAMILIES, family_of
from tonearm.planning import adoption
from tonearm.settings import FetchSettings, ModelSettings, build
from tonearm.sources.labelled import list_labelled
from tonearm.sources.listing import list_tracks
from tonearm.sources.reader import ObjectReader
from tonearm.sources.registry import SOURCES
from tonearm.sources.track_ref import make_ref

DOCS = Path(__file__).parents[2] / "docs"
BROKEN = "class Odd(Exception): pass\nraise Odd('no such planet')\n"
HALF = """
class Half:
    schemes = ("half",)


class Late(Half):
    has_ranges, shape = False, "list"
    matches = labelled = read = lambda *given: True

    def list(self, *given):
        raise KeyError("x")
"""
Use = Callable[[Path], None]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that toy-tonearm is installed in."""
    return install_toy(tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Have this process find the packages in a folder, until the test ends."""

    def find(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        plugins._installed.cache_clear()

    for registry in (EXPORTERS, FAMILIES, INSTALLED, SOURCES):
        monkeypatch.setattr(registry, "_loaded", {})
    yield find
    monkeypatch.undo()
    plugins._installed.cache_clear()


@pytest.mark.processes
def test_a_source_from_outside_lists_reads_and_labels(toy: Path, use: Use) -> None:
    with pytest.raises(SourceError, match="unknown scheme toy://; expected one of s3://"):
        list(list_tracks(["toy://3"]))
    use(toy)
    refs = list(list_tracks(["toy://3", "toy://2"]))
    assert [ref.uri for ref in refs] == ["toy://tone/1", "toy://tone/2", "toy://tone/3"], "each once"
    reader = ObjectReader(FetchSettings(num_attempts=1))
    assert reader.read(refs[0])[:4] == b"RIFF" and reader.read_ends(refs[0], 1, 1) is None
    with pytest.raises(FetchError, match="is no tone") as caught:
        reader.read(make_ref("toy://tone/high"))
    assert caught.value.code == "not_found"
    collection = list_labelled("toy://2")
    assert collection.label_by == "pitch" and collection.counts == Counter({"1": 1, "2": 1})
    with pytest.raises(SourceError, match=r"toy://x is not an address that the source 'toy' knows"):
        list(list_tracks(["toy://x"]))


@pytest.mark.processes
def test_an_exporter_from_outside_is_found_by_name_and_ending(
    toy: Path, use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tracks(tmp_path, 20, error_share=0.0)
    with pytest.raises(UsageError, match=r"ending is that of no export \(.csv, .jsonl, .parquet\)"):
        app(["export", str(tmp_path), str(tmp_path / "a.toy")], standalone_mode=False)
    use(toy)
    assert (
        app(["export", str(tmp_path), str(tmp_path / "a.toy"), "--option", "separator=|"], standalone_mode=False) == 0
    )
    assert "20 tracks in 1 file" in capsys.readouterr().out
    lines = (tmp_path / "a.toy").read_text().splitlines()
    assert len(lines) == 20 and all(line.count("|") == 1 for line in lines)
    assert export(str(tmp_path), "toy", str(tmp_path / "b")).num_tracks == 20
    with pytest.raises(UsageError, match="got an empty separator"):
        export(str(tmp_path), "toy", str(tmp_path / "c"), separator="")
    with pytest.raises(UsageError, match="got the option width for toy, which has separator"):
        export(str(tmp_path), "toy", str(tmp_path / "c"), width=3)
    with pytest.raises(UsageError, match="projection to 3 numbers for toy, which has none; it goes with embeddings"):
        export(str(tmp_path), "toy", str(tmp_path / "c"), dim=3)


@pytest.mark.processes
def test_a_family_from_outside_is_described_scored_and_trained_from(toy: Path, use: Use, tmp_path: Path) -> None:
    use(toy)
    from transformers import Wav2Vec2FeatureExtractor

    from tonearm.training.fit.initial import read_initial_model
    from tonearm.training.fit.initial_weights import Classifier as ToTrain
    from tonearm.training.fit.initial_weights import load_initial_model

    initial = read_initial_model("small-toy", from_scratch=True)
    model, extractor = load_initial_model(initial, ToTrain(["a", "b", "c"], False), seed=0)
    assert type(model).__name__ == "ToyForAudioClassification" and isinstance(extractor, Wav2Vec2FeatureExtractor)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    info = describe_checkpoint(str(tmp_path))
    assert (info.family, info.labels, info.embedding_dim, info.min_samples) == ("toy", ("a", "b", "c"), 16, 400)
    windows = clips(1, num_clips=3, length_s=1.0)
    scores = Classifier.load(str(tmp_path), runtime="torch", precision="fp32").score(windows)
    loudness = np.abs(np.stack(windows)).reshape(3, 16, -1).mean(axis=2)
    np.testing.assert_allclose(scores.embedding, loudness, rtol=1e-5)
    weight, bias = (value.detach().numpy() for value in (model.classifier.weight, model.classifier.bias))
    np.testing.assert_allclose(scores.logits, loudness @ weight.T + bias, rtol=1e-4, atol=1e-6)


@pytest.mark.processes
def test_a_head_that_a_package_brings_along_needs_its_name_alone(toy: Path, use: Use) -> None:
    with pytest.raises(SettingsError, match=r"got --head 'level', expected NAME=MODEL.* no installed package brings a"):
        read_flags(["level"])
    with pytest.raises(SettingsError, match="the head level has no model, and no installed package brings one along"):
        build(ModelSettings, {"heads": {"level": ""}}, where="here")
    use(toy)
    folder = str(toy / "toy_tonearm" / "level")
    heads = build(ModelSettings, {"heads": read_flags(["level", "other=m:multi"])}, where="here").heads
    assert heads == {"level": HeadSettings(folder, "single"), "other": HeadSettings("m", "multi")}
    heads = build(ModelSettings, {"heads": {"level": {"window_s": 2.0}}}, where="here").heads
    assert heads == {"level": HeadSettings(folder, "single", window_s=2.0)}


def test_a_head_with_an_unknown_activation_is_its_packages_fault(use: Use, tmp_path: Path) -> None:
    odd = "class Odd:\n    activation = 'loud'\n    def model(self):\n        return 'm'\n"
    use(lay_out(tmp_path, "odd-package", {"tonearm.heads": {"odd": "odd_head:Odd"}}, odd_head=odd))
    with pytest.raises(PluginError, match="the head 'odd' has the activation 'loud', expected single, multi"):
        read_flags(["odd"])


@pytest.mark.processes
def test_a_family_whose_code_fails_in_training_is_blamed_on_its_package(
    toy: Path, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(toy)
    settings = train_settings("small-toy", tmp_path / "cache", from_scratch=True, epochs=1, new_head=False)
    plan = planned(write_folders(tmp_path / "sounds", clips=4), settings)
    loop = loop_of(plan, tmp_path / "run")
    from toy_tonearm import family

    def forward(self: object, input_values: object) -> object:
        raise KeyError("no such part")

    says = r"the model family 'toy' of the package toy-tonearm 1.0 failed \(KeyError: 'no such part'\); update the"
    with monkeypatch.context() as patched:
        patched.setattr(family.torch.nn.functional, "adaptive_avg_pool1d", forward)
        with pytest.raises(PluginError, match=says):
            loop.run()
        with pytest.raises(PluginError, match=says):
            loop.predict(plan.job.validation)
    monkeypatch.setattr(family.ToyForAudioClassification, "__init__", lambda *_: forward(None, None))
    with pytest.raises(PluginError, match=says):
        planned(tmp_path / "sounds", settings)


def test_a_broken_package_is_one_line_for_who_needs_it_and_nothing_for_others(use: Use, tmp_path: Path) -> None:
    entries = {
        group: {"odd": "odd_module:Odd"} for group in ("tonearm.families", "tonearm.sources", "tonearm.exporters")
    }
    use(lay_out(tmp_path / "target", "odd-package", entries, odd_module=BROKEN))
    make_tracks(tmp_path, 3)
    says = (
        r"'odd' of the package odd-package 1.0 cannot be loaded \(Odd: no such planet\); update the package, or unins"
    )
    with pytest.raises(PluginError, match=f"the source {says}"):
        list(list_tracks(["odd://x"]))
    with pytest.raises(PluginError, match=f"the exporter {says}"):
        export(str(tmp_path), "odd", str(tmp_path / "x"))
    with pytest.raises(PluginError, match=f"the model family {says}"):
        family_of("odd")
    with pytest.raises(UsageError, match=rf"ending is that of no export .* Also, the exporter {says}"):
        app(["export", str(tmp_path), str(tmp_path / "x.odd")], standalone_mode=False)
    assert export(str(tmp_path), "csv", str(tmp_path / "x.csv")).num_tracks == 3
    assert family_of("unheard-of").scratch_config() is None
    said = [finding.text for finding in _added() if finding.status == "note"]
    assert len(said) == 3 and re.match(f"the model family {says}", said[0]), "and doctor lists them"
    assert EXPORTERS.outside().usable == {} and "odd" in EXPORTERS.names()


def test_a_package_that_ends_the_process_is_named(use: Use, tmp_path: Path) -> None:
    """What it was asked for ended without a word, with the package's own exit status."""
    use(lay_out(tmp_path, "quits", {"tonearm.sources": {"quits": "quits:Source"}}, quits="raise SystemExit(0)"))
    with pytest.raises(PluginError, match=r"the source 'quits' of the package quits 1.0 cannot be loaded \(SystemExit"):
        list(list_tracks(["quits://x"]))


def test_a_name_that_two_packages_claim_belongs_to_neither(use: Use, tmp_path: Path) -> None:
    for name in ("one", "two"):
        lay_out(
            tmp_path / "target", f"{name}-package", {"tonearm.exporters": {"both": f"{name}:X", "csv": f"{name}:X"}}
        )
    use(tmp_path / "target")
    with pytest.raises(PluginError, match=r"'both' is claimed by one-package 1.0 and two-package 1.0; uninstall all"):
        EXPORTERS.get("both")
    assert EXPORTERS.get("csv") is EXPORTERS.builtin["csv"]
    assert any(
        re.search(r"'csv' is tonearm's own; one-package 1.0 and two-package 1.0 may not", line)
        for line in EXPORTERS.outside().problems
    )


def test_a_run_that_uses_a_name_that_a_package_may_not_have_says_so(use: Use, tmp_path: Path) -> None:
    groups = {"tonearm.families": ["hubert", "ast"], "tonearm.sources": ["s3", "file"], "tonearm.exporters": ["csv"]}
    use(
        lay_out(
            tmp_path / "target",
            "greedy-package",
            {group: dict.fromkeys(names, "greedy_module:X") for group, names in groups.items()},
            greedy_module="raise AssertionError('nobody asked for it')\n",
        )
    )
    make_tracks(tmp_path / "out", 3)
    says = "is tonearm's own; greedy-package 1.0 may not take its name and is not used; it needs another name"
    plan = adoption.planned(ModelSettings(**demo.models()), None, 60.0)
    assert refused_claims(plan, [str(tmp_path), "gs://b", str(tmp_path / "x")]) == [
        f"the model family 'hubert' {says}",
        f"the source 'file' {says}",
    ]
    assert refused_claims(plan, ["gs://bucket"]) == [f"the model family 'hubert' {says}"]
    assert export(str(tmp_path / "out"), "csv", str(tmp_path / "a.csv")).notes == (f"the exporter 'csv' {says}",)
    assert export(str(tmp_path / "out"), "jsonl", str(tmp_path / "a.jsonl")).notes == ()


def test_what_does_not_keep_the_contract_says_what_it_lacks_or_whose_fault_it_is(use: Use, tmp_path: Path) -> None:
    entries = {"tonearm.sources": {"half": "half_made:Half", "late": "half_made:Late"}}
    use(lay_out(tmp_path, "half-package", entries, half_made=HALF))
    with pytest.raises(PluginError, match=r"half-package 1.0 lacks has_ranges, labelled, list, matches, read, shape"):
        list(list_tracks(["half://x"]))
    with pytest.raises(PluginError, match=r"'late' of the package half-package 1.0 failed \(KeyError: 'x'\)"):
        list(list_tracks(["late://x"]))


@pytest.mark.parametrize(
    ("page", "module"),
    [("add-a-model", "family"), ("add-a-source", "source"), ("add-an-exporter", "exporter"), ("heads", "head")],
)
def test_the_recipes_show_the_toys(page: str, module: str) -> None:
    code = (TOY / f"{module}.py").read_text()
    assert code.count("\n") < 40
    assert f"```python toy\n{code}```" in (DOCS / f"{page}.md").read_text(), (
        f"copy {module}.py into docs/{page}.md again"
    )
