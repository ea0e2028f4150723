"""Windows to scores and embeddings: ``classifier.Classifier`` is a loaded head.

``checkpoint`` says what a model folder or hub id holds, ``runtimes`` what runs it: ``torch_runtime`` or ``openvino``.
``features`` makes inputs of waveforms; ``pooling`` makes a track's result of its windows' scores.
"""
