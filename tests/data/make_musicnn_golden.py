"""Make ``musicnn_golden.npz`` and ``tensorflow_checkpoint``: what TensorFlow makes of musicnn's own graph.

::

    pip download --no-deps musicnn==0.1.0 && unzip -d WHEEL musicnn-0.1.0-py3-none-any.whl
    python -m venv TF && TF/bin/pip install tensorflow-cpu librosa
    PYTHONPATH=.:src TF/bin/python -m tests.data.make_musicnn_golden WHEEL

The graph is that of the wheel (``.meta``, without what trains it), run by TensorFlow 2 on ``musicnn_wheel.windows()``:
``MTT_musicnn`` and ``MSD_musicnn`` by the wheel's weights, which its own saver restores, ``random`` by
``musicnn_wheel.random_variables()``. Each has ``/logits`` [windows, labels] and ``/embedding`` [windows, 200].
``tensorflow_checkpoint`` has ``musicnn_wheel.small_variables()`` as TensorFlow's own saver writes them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow

from tests.musicnn_wheel import librosa_features, random_variables, small_variables, windows

tf = tensorflow.compat.v1
DATA = Path(__file__).parent
GOLDEN, CHECKPOINT = DATA / "musicnn_golden.npz", DATA / "tensorflow_checkpoint"
OUTPUTS = {"logits": "model/dense_1/BiasAdd", "embedding": "model/batch_normalization_10/batchnorm/add_1"}
RESTORE, FILE_NAME = "save/restore_all", "save/Const:0"
FEATURES, IS_TRAINING = "model/Placeholder:0", "model/Placeholder_2:0"


def main() -> None:
    """Write both."""
    wheel = Path(sys.argv[1]) / "musicnn"
    tf.disable_eager_execution()
    features = np.stack([librosa_features(window) for window in windows()])
    golden: dict[str, Any] = {"features": features[:, ::20, ::8]}
    for name in ("MTT_musicnn", "MSD_musicnn"):
        with _session(wheel / name) as session:
            session.run(RESTORE, {FILE_NAME: f"{wheel / name}/"})
            golden |= _outputs(session, name, features, {})
    with _session(wheel / "MTT_musicnn") as session:
        weights = {f"{name}/read:0": values for name, values in random_variables().items()}
        golden |= _outputs(session, "random", features, weights)
    np.savez_compressed(GOLDEN, **golden)
    _write_checkpoint()


def _session(folder: Path) -> Any:
    """Return a session of the wheel's graph as far as the outputs need it, and its restoring."""
    meta = tf.MetaGraphDef.FromString((folder / ".meta").read_bytes())
    needed = tf.graph_util.extract_sub_graph(meta.graph_def, [*OUTPUTS.values(), RESTORE])
    for node in needed.node:
        node.attr.pop("_output_shapes", None)
    graph = tensorflow.Graph()
    with graph.as_default():
        tf.import_graph_def(needed, name="")
    return tf.Session(graph=graph)


def _outputs(session: Any, name: str, features: Any, weights: dict[str, Any]) -> dict[str, Any]:
    fed = {FEATURES: features, IS_TRAINING: False, **weights}
    return {f"{name}/{kind}": session.run(f"{output}:0", fed) for kind, output in OUTPUTS.items()}


def _write_checkpoint() -> None:
    values = small_variables()
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name, use_resource=False) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        shutil.rmtree(CHECKPOINT, ignore_errors=True)
        CHECKPOINT.mkdir()
        saver = tf.train.Saver(variables)
        saver.save(session, str(CHECKPOINT / "model"), write_meta_graph=False, write_state=False)


if __name__ == "__main__":
    main()
