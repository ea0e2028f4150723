"""Exported models: a graph in a file (``.onnx``, ``.tflite``, OpenVINO's ``.xml``) with its ``description``.

``files`` finds them, ``graph`` reads one in a child process and keeps what it has made of it, ``runtime`` scores.
``add`` writes descriptions; ``named_models`` are those that ``tonearm models add NAME`` can fetch.
"""
