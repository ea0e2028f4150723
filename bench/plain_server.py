"""The peer of ``tonearm serve``: what a person would write with FastAPI and ``transformers.pipeline``.

python -m bench.plain_server MODEL PORT softmax|sigmoid
"""

from __future__ import annotations

import io
import sys
from typing import Any

import librosa
import uvicorn
from fastapi import Body, FastAPI
from transformers import pipeline


def build(model: str, function: str) -> FastAPI:
    """Return the app."""
    app, classifier = FastAPI(), pipeline("audio-classification", model=model)

    @app.post("/")
    def classify(audio: bytes = Body(media_type="application/octet-stream")) -> Any:
        waveform, _ = librosa.load(io.BytesIO(audio), sr=classifier.feature_extractor.sampling_rate)
        return classifier(waveform, function_to_apply=function)

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[1], sys.argv[3]), port=int(sys.argv[2]), log_level="warning")
