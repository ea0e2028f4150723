"""Bringing the published musicnn models here: the package's wheel, its TensorFlow checkpoint, a folder of weights."""
