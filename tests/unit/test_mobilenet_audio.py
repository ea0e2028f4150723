"""The efficient CNNs: as large as published, fed as their authors feed them, made of their published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from bench.sizes import PUBLISHED, TOLERANCE, ratios, size_of
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import BatchNorm2d, functional

from tests.checkpoints import clips, save_small
from tests.labelled import loop_of, planned, train_settings, write_folders
from tonearm.cli.app import app
from tonearm.errors import CheckpointError, DestinationError
from tonearm.models.checkpoint import describe_checkpoint, load_model
from tonearm.models.classifier import Classifier
from tonearm.models.cost import cost_of
from tonearm.models.families import family_of
from tonearm.models.features import EmphasizedLogMel, load_features, save_features
from tonearm.models.networks.efficientat import convert
from tonearm.models.networks.mobilenet_audio import MobileNetAudioConfig, MobileNetAudioForAudioClassification
from tonearm.models.networks.mobilenet_features import MobileNetAudioFeatureExtractor
from tonearm.training.fit.examples import model_inputs
from tonearm.training.fit.initial import choose_head, read_initial_model
from tonearm.training.fit.initial_weights import Classifier as NewClassifier
from tonearm.training.fit.initial_weights import empty_model, load_initial_model
from tonearm.training.fit.snapshot import BEST
from tonearm.training.fit.step import _parameter_groups

RATE, LABELS = 32000, ("siren", "rain", "piano")
FAMILY = "mobilenet_audio"

# Table 1 of MobileNetV3 (arXiv:1905.02244), written again: kernel, expanded, out, squeeze, hard swish, stride.
TABLE = [
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
]


def eights(channels: float) -> int:
    nearest = max(8, 8 * int(channels / 8 + 0.5))
    return nearest if nearest >= 0.9 * channels else nearest + 8


class Published:
    """A file of the published layout, and what its network says, by the tensors' names alone."""

    def __init__(self, width: float, num_outputs: int, seed: int = 0) -> None:
        self.width, self.tensors = width, dict[str, Tensor]()
        self.generator = torch.Generator().manual_seed(seed)
        channels = eights(16 * width)
        self._conv("features.0", channels, 1, 3)
        for number, (kernel, expanded, out, squeeze, _, _) in enumerate(TABLE, 1):
            expanded, out, place = eights(expanded * width), eights(out * width), 0
            if expanded != channels:
                self._conv(f"features.{number}.block.0", expanded, channels, 1)
                place += 1
            self._conv(f"features.{number}.block.{place}", expanded, 1, kernel)
            if squeeze:
                place += 1
                middle = f"features.{number}.block.{place}.conc_se_layers.0"
                self._linear(f"{middle}.fc1", eights(expanded // 4), expanded)
                self._linear(f"{middle}.fc2", expanded, eights(expanded // 4))
            self._conv(f"features.{number}.block.{place + 1}", out, expanded, 1)
            channels = out
        self._conv("features.16", 6 * channels, channels, 1)
        self._linear("classifier.2", eights(1280 * width), 6 * channels)
        self._linear("classifier.5", num_outputs, eights(1280 * width))

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _conv(self, name: str, out: int, into: int, kernel: int) -> None:
        self.tensors[f"{name}.0.weight"] = self._random(out, into, kernel, kernel) * (2 / (into * kernel**2)) ** 0.5
        self.tensors[f"{name}.1.weight"] = 1 + 0.1 * self._random(out)
        self.tensors[f"{name}.1.bias"] = 0.1 * self._random(out)
        self.tensors[f"{name}.1.running_mean"] = 0.1 * self._random(out)
        self.tensors[f"{name}.1.running_var"] = 1 + 0.2 * self._random(out).abs()
        self.tensors[f"{name}.1.num_batches_tracked"] = torch.tensor(7)

    def _linear(self, name: str, out: int, into: int) -> None:
        self.tensors[f"{name}.weight"] = self._random(out, into) / into**0.5
        self.tensors[f"{name}.bias"] = 0.1 * self._random(out)

    def _layer(self, values: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.0.weight"]
        values = functional.conv2d(values, weight, None, stride, (weight.shape[-1] - 1) // 2, 1, groups)
        parts = [self.tensors[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(values, *parts, eps=0.001)

    def _dense(self, values: Tensor, name: str) -> Tensor:
        return values @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def says(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embedding of [B, M, T], as the paper describes the network."""
        values = functional.hardswish(self._layer(spectrogram[:, None], "features.0", 2))
        for number, (_, _, _, squeeze, is_swish, stride) in enumerate(TABLE, 1):
            name, inner = f"features.{number}.block", values
            activate = functional.hardswish if is_swish else functional.relu
            places = len({key.split(".")[3] for key in self.tensors if key.startswith(f"{name}.")})
            place = places - (3 if squeeze else 2)
            if place:
                inner = activate(self._layer(inner, f"{name}.0"))
            inner = activate(self._layer(inner, f"{name}.{place}", stride, inner.shape[1]))
            if squeeze:
                gate = functional.relu(self._dense(inner.mean((2, 3)), f"{name}.{place + 1}.conc_se_layers.0.fc1"))
                inner = inner * self._dense(gate, f"{name}.{place + 1}.conc_se_layers.0.fc2").sigmoid()[..., None, None]
            inner = self._layer(inner, f"{name}.{places - 1}")
            values = values + inner if stride == 1 and values.shape == inner.shape else inner
        embedding = functional.hardswish(self._layer(values, "features.16")).mean((2, 3))
        return self._dense(functional.hardswish(self._dense(embedding, "classifier.2")), "classifier.5"), embedding


def log_mel(waveform: NDArray[np.float32]) -> Tensor:
    """Return the paper's spectrogram by Kaldi's formulas and librosa's transform, [1, 128, T]."""
    emphasized = waveform[1:].astype(np.float64) - 0.97 * waveform[:-1]
    taper = np.zeros(1024)
    taper[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    spectrum = librosa.stft(
        emphasized, n_fft=1024, hop_length=320, window=taper, pad_mode="reflect", dtype=np.complex128
    )

    def mel(hz: Any) -> Any:
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(0.0), mel(15000.0), 130)
    bins = mel(np.arange(513) * RATE / 1024)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    power = np.maximum(0, np.minimum(rising, falling)) @ np.abs(spectrum) ** 2
    return torch.from_numpy((np.log(power + 1e-5) + 4.5) / 5).float()[None]


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_as_large_as_published(name: str) -> None:
    cost = size_of(name)
    assert ratios(name, cost) == pytest.approx((1, 1), abs=TOLERANCE)
    # And the parameters to the last digit that is published.
    assert round(cost.num_parameters / 1e6, 3 if name == "mn04" else 2) == pytest.approx(
        PUBLISHED[name].num_parameters / 1e6, abs=0.0011
    )


def test_multiply_adds_are_those_of_the_layers() -> None:
    """Counted by hand for one convolution and one linear layer, whatever the features cost."""

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = torch.nn.Conv1d(1, 4, 10, 10, bias=False), torch.nn.Linear(4, 3)

        def forward(self, values: Tensor) -> Tensor:
            mean: Tensor = self.last(self.conv(values[:, None]).mean(dim=2))
            return mean

    class AsIs(torch.nn.Module):
        def forward(self, windows: Tensor) -> dict[str, Tensor]:
            return {"values": windows @ torch.eye(windows.shape[1])}

    assert cost_of(Tiny(), AsIs(), 1000) == (40 + 15, 100 * 40 + 12)  # type: ignore[arg-type]


@pytest.mark.parametrize("length_s", [0.04, 1.0, 3.21, 10.0])
def test_the_spectrogram_is_the_papers(length_s: float) -> None:
    waveform = clips(3, num_clips=1, length_s=2 * length_s)[0][: round(length_s * RATE)]
    expected = log_mel(waveform)
    extractor = MobileNetAudioFeatureExtractor()
    found = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_features"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    features = family_of(FAMILY).features(extractor)
    assert isinstance(features, EmphasizedLogMel)
    found = features(torch.from_numpy(waveform)[None])["input_features"]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert expected.shape[2] == 1 + (len(waveform) - 1) // 320, "as long as the window"


def test_the_spectrogram_is_kept_in_a_file(tmp_path: Path) -> None:
    extractor = MobileNetAudioFeatureExtractor(num_mel_bins=40, hop_length=480, max_frequency=14000.0, mean=-4.0)
    features = EmphasizedLogMel.of(extractor)
    save_features(features, tmp_path / "features.safetensors")
    window = torch.randn(1, 5000)
    found = load_features(tmp_path / "features.safetensors")(window)["input_features"]
    assert torch.equal(found, features(window)["input_features"]) and found.shape == (1, 40, 11)


def test_shorter_windows_of_a_training_batch_end_in_silence() -> None:
    features = EmphasizedLogMel.of(MobileNetAudioFeatureExtractor())
    long, short = clips(3, num_clips=2, length_s=1.0)
    padded = np.concatenate([short[:9000], np.zeros(len(long) - 9000, np.float32)])
    found = model_inputs(features, [long, short[:9000]], "cpu")["input_features"]
    expected = features(torch.from_numpy(np.stack([long, padded])))["input_features"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("width", "size"), [(0.1, 384 // 4), (0.4, 384), (1.0, 960)])
def test_a_published_file_says_what_it_said(
    width: float, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = Published(width, len(LABELS))
    torch.save(published.tensors, tmp_path / "mn.pt")
    (tmp_path / "labels.csv").write_text('index,mid,display_name\n0,/m/0,siren\n1,/m/1,rain\n2,/m/2,"piano"\n')
    command = ["models", "convert", str(tmp_path / "mn.pt"), "--out", str(tmp_path / "mn")]
    assert app([*command, "--labels", str(tmp_path / "labels.csv")], standalone_mode=False) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"use it: tonearm tag SOURCE --tag-model {tmp_path / 'mn'} --out RUN\n") and not said.err
    classifier = Classifier.load(str(tmp_path / "mn"), runtime="torch", precision="fp32")
    info = classifier.info
    assert (info.labels, info.family, info.multi_label) == (LABELS, FAMILY, True)
    assert (info.sample_rate, info.native_window_s, classifier.window_s) == (RATE, 10.0, 10.0)
    for window in clips(5, num_clips=2, length_s=4.0):
        with torch.no_grad():
            logits, embedding = published.says(log_mel(window))
        found = classifier.score([window])
        np.testing.assert_allclose(found.logits, logits.numpy(), atol=2e-4, rtol=1e-3)
        np.testing.assert_allclose(found.embedding, embedding.numpy(), atol=2e-4, rtol=1e-3)
        assert found.embedding.shape == (1, info.embedding_dim) == (1, size) and logits.std() > 1e-3


def test_other_hops_and_bands_are_told(tmp_path: Path) -> None:
    torch.save(Published(0.1, 3).tensors, tmp_path / "mn.pt")
    where = {"hop_length": 480, "num_mel_bins": 64, "is_multi": False}
    convert(tmp_path / "mn.pt", str(tmp_path / "mn"), LABELS, **where)
    info = describe_checkpoint(str(tmp_path / "mn"))
    assert info.native_window_s == pytest.approx(10.0, abs=0.01) and not info.multi_label
    values = json.loads((tmp_path / "mn" / "preprocessor_config.json").read_text())
    assert (values["hop_length"], values["num_mel_bins"]) == (480, 64)
    assert Classifier.load(str(tmp_path / "mn"), runtime="torch").score([np.zeros(9000, np.float32)]).logits.any()


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in Published(0.1, 3).tensors.items() if key != name}


BAD: dict[str, tuple[Any, str]] = {
    "an object": ({"a": Path("x")}, "cannot be read (not tensors alone); expected a .pt file of tensors by name"),
    "a list": ([1, 2], "holds a list of other things, expected tensors by name"),
    "nested": ({"state_dict": without("")}, "holds a dict of other things"),
    "another head": (without("classifier.5.weight"), "has no classifier.5.weight; expected a checkpoint of Efficient"),
    "a lack": (without("features.3.block.1.1.bias"), "has no features.3.block.1.1.bias, expected one of the shape [8]"),
    "more": ({**without(""), "x.residuals": torch.zeros(1)}, "has x.residuals, which is of another network"),
    "a shape": (
        {**without(""), "features.0.0.weight": torch.zeros(8, 3, 3, 3)},
        "features.0.0.weight has the shape [8, 3, 3, 3], expected [8, 1, 3, 3] at width 0.1",
    ),
    "no width": ({**without(""), "classifier.2.weight": torch.zeros(0, 96)}, "has the shape [0, 96], which is of no"),
    "four outputs": (Published(0.1, 4).tensors, "got 3 distinct labels for the 4 outputs of"),
    "no number": (
        {**without(""), "classifier.5.bias": torch.full((3,), torch.nan)},
        "the weight classifier.bias holds values that are not numbers",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_published_file_is_one_line(what: str, tmp_path: Path) -> None:
    content, message = BAD[what]
    torch.save(content, tmp_path / "mn.pt")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "mn.pt", str(tmp_path / "out"), LABELS, hop_length=320, num_mel_bins=128, is_multi=True)
    assert message in caught.value.message and not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_and_a_folder_that_is(tmp_path: Path) -> None:
    how: dict[str, Any] = {"hop_length": 320, "num_mel_bins": 128, "is_multi": True}
    with pytest.raises(CheckpointError, match=r"cannot be read \(No such file or directory"):
        convert(tmp_path / "mn.pt", str(tmp_path / "out"), LABELS, **how)
    torch.save(Published(0.1, 3).tensors, tmp_path / "mn.pt")
    with pytest.raises(DestinationError, match="holds files already; give another --out"):
        convert(tmp_path / "mn.pt", str(tmp_path), LABELS, **how)


def test_windows_of_any_length_up_to_its_own(tmp_path: Path) -> None:
    folder = save_small(tmp_path / "mn", FAMILY)
    classifier = Classifier.load(str(folder), runtime="torch", precision="fp32")
    (window,) = clips(7, num_clips=1, length_s=4.0)
    alone = classifier.score([window[:32000]]).logits
    together = classifier.score([window, window[:32000], window[:1024]])
    np.testing.assert_allclose(together.logits[1], alone[0], atol=1e-5)
    assert np.isfinite(together.logits).all()
    assert Classifier.load(str(folder), runtime="torch", window_s=60.0).window_s == classifier.info.native_window_s


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"width": 0.0}, "width is 0.0, expected a number above 0 and up to 10"),
        ("config.json", {"width": 1e9}, "width is 1000000000.0, expected a number above 0 and up to 10"),
        ("config.json", {"width": 0.6}, "the config belongs to other weights"),
        ("preprocessor_config.json", {"n_fft": 512}, "preprocessor_config.json has n_fft 512, expected 1024"),
        ("preprocessor_config.json", {"win_length": 2000}, "win_length is 2000, expected at most n_fft, 1024"),
        ("preprocessor_config.json", {"win_length": 0}, "win_length is 0, expected a whole number from 1"),
        ("preprocessor_config.json", {"max_frequency": 17000.0}, "from 0 to 17000 Hz, expected ones from 0 to half"),
        ("preprocessor_config.json", {"preemphasis": "a"}, 'preemphasis is "a", expected a number'),
    ],
)
def test_values_that_no_such_model_has_are_one_line(
    file: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = save_small(tmp_path / "mn", FAMILY)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(CheckpointError) as caught:
        load_model(str(folder), revision=None, allow_pickle=False)
    assert message in caught.value.message


def test_random_weights_neither_swell_nor_shrink_what_comes_in() -> None:
    torch.manual_seed(0)
    model = MobileNetAudioForAudioClassification(MobileNetAudioConfig(width=1.0, num_labels=10))
    weight = model.blocks[13].project.conv.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[0]) ** 0.5, rel=0.02)
    seen: list[Tensor] = []
    family_of(FAMILY).watch_embedding(model, seen.append)
    with torch.no_grad():
        model.eval()(torch.randn(2, 128, 300))
    assert 1e-3 < seen[0].std() < 1e3
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.classifier.bias.any()


@pytest.mark.processes
@pytest.mark.slow
def test_openvino_says_what_torch_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO gives a narrow CNN's scores and embeddings as torch does, for windows of every length."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = str(save_small(tmp_path / "mn", FAMILY))
    windows = [clip for length_s in (0.5, 3.0, 20.0) for clip in clips(9, num_clips=2, length_s=length_s)]
    torchs = Classifier.load(folder, runtime="torch", precision="fp32").score(windows)
    found = Classifier.load(folder, runtime="openvino", precision="fp32").score(windows)
    assert torchs.logits.std() > 0.1
    np.testing.assert_allclose(found.logits, torchs.logits, atol=1e-3)
    np.testing.assert_allclose(found.embedding, torchs.embedding, atol=1e-3)


@pytest.mark.processes
@pytest.mark.slow
def test_it_learns_from_random_weights(tmp_path: Path) -> None:
    """mn04 learns three kinds of sound from random weights, and keeps what its batch norms have seen."""
    collection = write_folders(tmp_path / "sounds", clips=10)
    settings = {
        "from_scratch": True,
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "keep": "last",
        "new_head": False,
    }
    run = planned(collection, train_settings("mn04", tmp_path / "cache", **settings))
    assert run.job.initial.family == FAMILY and run.job.initial.sample_rate == RATE
    loop = loop_of(run, tmp_path / "run")
    progress = loop.run()
    assert progress.losses[-1][1] < 0.7 * progress.losses[0][1], progress.losses
    found = loop.predict(run.job.train)  # with what the norms have kept, not with what a batch has
    right = found.track_scores(is_multi=False).argmax(axis=1) == found.targets.argmax(axis=1)
    assert right.mean() >= 0.8
    kept = load_file(tmp_path / "run" / BEST)
    assert kept["head.norm.num_batches_tracked"] > 0 and kept["stem.norm.running_mean"].abs().max() > 1e-2
    _, extractor = empty_model(run.job.initial, NewClassifier(run.job.labels, False, run.job.settings.window_s))
    assert loop.bare.config.max_length == extractor.max_length == 100, "made for windows of a second"


def test_a_converted_checkpoint_is_trained_on_with_other_labels(tmp_path: Path) -> None:
    published = Published(0.1, len(LABELS))
    torch.save(published.tensors, tmp_path / "mn.pt")
    convert(tmp_path / "mn.pt", str(tmp_path / "mn"), LABELS, hop_length=320, num_mel_bins=128, is_multi=True)
    initial = read_initial_model(str(tmp_path / "mn"))
    model, _ = load_initial_model(initial, NewClassifier(("cat", "dog"), False, 5.0), seed=0)
    assert not choose_head(initial, ["cat", "dog"]).is_kept and model.classifier.weight.shape[0] == 2
    assert torch.equal(model.stem.conv.weight, published.tensors["features.0.0.weight"])
    assert torch.equal(model.projector.weight, published.tensors["classifier.2.weight"])
    assert model.config.max_length == 1000, "a trained network stays as long as it was"
    norms = {
        id(weight) for module in model.modules() if isinstance(module, BatchNorm2d) for weight in module.parameters()
    }
    decayed, plain = _parameter_groups(model, 0.05)
    assert norms <= {id(weight) for weight in plain["params"]} and decayed["weight_decay"] == 0.05
