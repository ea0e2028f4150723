"""Windows to scores and embeddings: ``classifier.Classifier`` is a loaded head.

``checkpoint`` describes what a model folder or hub id holds. ``runtimes`` chooses what runs it: ``torch_runtime`` or
``openvino``. ``features`` turns waveforms into inputs; ``pooling`` turns window scores into a track's result.
"""
