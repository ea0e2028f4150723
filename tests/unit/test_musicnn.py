from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.musicnn_wheel import (
    NUM_SAMPLES,
    librosa_features,
    random_variables,
    small_variables,
    windows,
    write_checkpoint,
    write_wheel,
)
from tonearm.errors import CheckpointError
from tonearm.models.checkpoint import describe_checkpoint, is_hub_id, load_model
from tonearm.models.classifier import Classifier
from tonearm.models.features import build_features, load_features, save_features
from tonearm.models.musicnn import named, wheel
from tonearm.models.musicnn.tensorflow_checkpoint import masked_crc, read_index, read_variables
from tonearm.models.networks.musicnn import Front
from tonearm.models.networks.musicnn_features import MusicnnFeatureExtractor
from tonearm.models.window_plan import plan_windows

DATA = Path(__file__).parent.parent / "data"
GOLDEN = np.load(DATA / "musicnn_golden.npz")
TENSORFLOWS = DATA / "tensorflow_checkpoint" / "model"


def files_of(prefix: Path) -> tuple[bytes, bytes]:
    return Path(f"{prefix}.index").read_bytes(), Path(f"{prefix}.data-00000-of-00001").read_bytes()


@pytest.fixture(scope="module")
def made_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the published wheel is, with the weights for which TensorFlow's logits are in the golden."""
    folder = tmp_path_factory.mktemp("wheel")
    return write_wheel(folder / wheel.FILE, {"MTT_musicnn": random_variables(), "MSD_musicnn": random_variables(1)})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_wheel: Path) -> Path:
    """An empty cache, for which the made wheel is the published one."""
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(made_wheel.read_bytes()).hexdigest())
    return tmp_path / "cache"


def test_a_crc_is_that_of_rfc_3720() -> None:
    unmasked = ((masked_crc(bytes(32)) - 0xA282EAD8) & 0xFFFFFFFF) << 15
    assert (unmasked | unmasked >> 32) & 0xFFFFFFFF == 0x8A9136AA


@pytest.mark.parametrize("by_tensorflow", [True, False])
def test_variables_are_read_as_they_were_written(by_tensorflow: bool, tmp_path: Path) -> None:
    expected = small_variables()
    if not by_tensorflow:
        write_checkpoint(tmp_path / "model", expected, block_entries=3)
    index, data = files_of(TENSORFLOWS if by_tensorflow else tmp_path / "model")
    assert set(read_index(index)) == set(expected)
    found = read_variables(index, data, expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape and found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values.astype(np.float32))


def test_any_damage_to_an_index_is_found() -> None:
    index, data = files_of(TENSORFLOWS)
    whole, undetected = read_index(index), []
    for place in range(0, len(index), 7):
        damaged = index[:place] + bytes([index[place] ^ 0x41]) + index[place + 1 :]
        try:
            if read_index(damaged) != whole:
                undetected.append(place)
        except CheckpointError:
            pass
    assert not undetected
    for length in (0, 8, 47, 48, len(index) - 1):
        with pytest.raises(CheckpointError):
            read_index(index[:length])
    with pytest.raises(CheckpointError, match=r"layer_3/kernel/Adam is damaged"):
        read_variables(index, data.replace(small_variables()["layer_3/kernel/Adam"].tobytes(), bytes(36)), whole)
    with pytest.raises(CheckpointError, match=r"no variable conv2d/kernel"):
        read_variables(index, data, ["conv2d/kernel"])


def test_features_are_those_that_the_models_were_trained_on() -> None:
    extractor = MusicnnFeatureExtractor()
    expected = np.stack([librosa_features(window) for window in windows()])
    # Rounding to float16 may fall to either side of what differs in the seventh digit.
    np.testing.assert_allclose(expected[:, ::20, ::8], GOLDEN["features"], atol=5e-4)
    made = build_features(extractor)(torch.from_numpy(windows()))["input_features"].numpy()
    np.testing.assert_allclose(made, expected, atol=5e-4)
    np.testing.assert_allclose(extractor(list(windows()))["input_features"], expected, atol=5e-4)
    assert np.abs(made - np.log10(10000 * (10**made - 1) / 10000 + 1)).max() < 1e-5 and made.max() > 5


def test_a_short_window_is_repeated_and_a_long_one_cut(tmp_path: Path) -> None:
    features = build_features(MusicnnFeatureExtractor())
    save_features(features, tmp_path / "features.safetensors")  # type: ignore[arg-type]
    for make in (features, load_features(tmp_path / "features.safetensors")):
        window = torch.from_numpy(windows()[:2])
        whole = make(window)["input_features"]
        assert whole.shape == (2, 187, 96)
        short = make(window[:, :10000])["input_features"]
        torch.testing.assert_close(short[:, :38], whole[:, :38])
        torch.testing.assert_close(short[:, 39:78], short[:, :39])
        assert make(window[:, :512])["input_features"].shape == (2, 187, 96)
        longer = torch.cat([window, window], dim=1)
        torch.testing.assert_close(make(longer)["input_features"][:, :186], whole[:, :186])
    reference = MusicnnFeatureExtractor()(windows()[0][:10000])["input_features"]
    np.testing.assert_allclose(short[0].numpy()[:39], make(window[:, :10000])["input_features"][0][:39])
    np.testing.assert_allclose(np.array(reference)[0], make(window[:, :10000])["input_features"][0], atol=5e-4)


def test_the_maximum_before_the_norm_is_that_after_it() -> None:
    torch.manual_seed(0)
    front = Front(16, 64, 5).eval()
    with torch.no_grad():
        front.norm.weight.uniform_(-1, 1)
        front.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        values = torch.randn(2, 1, 30, 20)
        padded = torch.nn.functional.pad(values, (0, 0, 31, 32))
        expected = front.norm(torch.relu(front.conv(padded))).amax(dim=3)
        torch.testing.assert_close(front(values), expected, atol=1e-5, rtol=1e-5)


def test_logits_and_embedding_are_those_of_the_wheels_graph_in_tensorflow(cache: Path, made_wheel: Path) -> None:
    folder = wheel.add("musicnn", made_wheel)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("LICENSE", "NOTICE", "config.json", "model.safetensors", "preprocessor_config.json"),
    ]
    assert "Pompeu Fabra" in (folder / "NOTICE").read_text() and "Permission" in (folder / "LICENSE").read_text()
    features = torch.from_numpy(np.stack([librosa_features(window) for window in windows()]))
    model, _, _ = load_model("musicnn", revision=None, allow_pickle=False)
    with torch.inference_mode():
        logits = model(features).logits.numpy()
    np.testing.assert_allclose(logits, GOLDEN["random/logits"], atol=1e-4)
    scores = Classifier.load("musicnn", runtime="torch").score(list(windows()))
    np.testing.assert_allclose(scores.logits, GOLDEN["random/logits"], atol=1e-4)
    np.testing.assert_allclose(scores.embedding, GOLDEN["random/embedding"], atol=1e-4)
    assert np.ptp(GOLDEN["random/logits"], axis=0).min() > 0.5  # else anything would be equal


def test_a_name_is_the_model_that_was_added(cache: Path, made_wheel: Path, tmp_path: Path) -> None:
    assert not is_hub_id("musicnn")
    with pytest.raises(CheckpointError, match=r"^musicnn-msd is not added here: `tonearm models add musicnn-msd`"):
        describe_checkpoint("musicnn-msd")
    folder = wheel.add("musicnn-msd", made_wheel)
    info = describe_checkpoint("musicnn-msd")
    assert (info.name, info.family, len(info.labels), info.embedding_dim) == ("musicnn-msd", "musicnn", 50, 200)
    assert (
        info.labels[:2] == ("rock", "pop")
        and info.multi_label
        and info.revision == describe_checkpoint(str(folder)).revision
    )
    assert plan_windows(info, 3.0, None).window_samples == NUM_SAMPLES
    assert plan_windows(info, 1.0, None).window_samples == 16000
    assert wheel.add("musicnn-msd") == folder  # without fetching anything


def test_a_wheel_that_is_not_the_published_one_leaves_nothing(cache: Path, made_wheel: Path, tmp_path: Path) -> None:
    stored = made_wheel.read_bytes()
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    for name in ("musicnn", "musicnn-msd"):
        with pytest.raises(CheckpointError, match=r"damaged\.whl has the SHA-256 [0-9a-f]{16}\.\.\., expected"):
            wheel.add(name, damaged)
    with pytest.raises(CheckpointError, match="cannot be read"):
        wheel.add("musicnn", tmp_path / "absent.whl")
    with pytest.raises(CheckpointError, match="expected one of musicnn, musicnn-msd"):
        wheel.add("vgg", made_wheel)
    assert not cache.exists()


def test_a_model_that_cannot_be_read_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_wheel(tmp_path / "other.whl", {"MTT_musicnn": small_variables()})
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(other.read_bytes()).hexdigest())
    for name, problem in (("musicnn", "no variable"), ("musicnn-msd", "does not hold MSD_musicnn")):
        with pytest.raises(CheckpointError, match=problem):
            wheel.add(name, other)
    left = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert not left and named.find_added("musicnn") is None


def test_several_may_add_one_model_at_once(cache: Path, made_wheel: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: wheel.add("musicnn", made_wheel), range(4)))
    assert folders == {cache / "models" / "added" / "musicnn"}
    assert sorted(path.name for path in folders.pop().parent.iterdir()) == ["musicnn", "musicnn.lock"]


def test_without_pip_one_line_says_how(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CheckpointError) as caught:
        wheel.add("musicnn")
    assert "--wheel FILE" in caught.value.message and "\n" not in caught.value.message


def test_a_cache_that_would_not_last_is_refused(
    monkeypatch: pytest.MonkeyPatch, made_wheel: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("TONEARM_CACHE", "")  # so that it is as before when the test is over
    monkeypatch.delenv("TONEARM_CACHE")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(wheel, "SHA256", hashlib.sha256(made_wheel.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match=r"file/tonearm cannot be written; set TONEARM_CACHE"):
        wheel.add("musicnn", made_wheel)
