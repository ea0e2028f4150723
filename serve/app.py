"""The server for `serve run` and `serve deploy`; serve/config.yaml says how.

serve deploy serve/config.yaml
serve run serve.app:app demo_models=true
"""

from tonearm.distributed.serving.app import build as app

__all__ = ["app"]
