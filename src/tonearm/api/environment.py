"""Every environment variable that decides something here and is no setting; ``tonearm doctor`` shows which are set.

Those of libraries that tonearm only passes on (AWS's own chain of credentials, OMP_NUM_THREADS) are named where people
ask for them; all that tonearm reads itself is here, which a test holds.
"""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable: its name, what it decides, whether its value is nobody's business, and who reads it."""

    name: str
    help: str
    is_secret: bool = False
    read_by: str = "tonearm"

    @property
    def value(self) -> str | None:
        """What it is set to, ``(set)`` for a secret, None where it is not."""
        value = os.environ.get(self.name)
        return "(set)" if value and self.is_secret else value


VARIABLES = (
    Variable("RAY_ADDRESS", "The Ray cluster to join; without it a local Ray is started, and serve needs none."),
    Variable("TONEARM_WAIT_FOR_WORKERS_S", "Seconds that a cluster which grows by itself may take to get new nodes."),
    Variable("TONEARM_SCORE_ON", "GPU where such a cluster's new nodes should have one for each scoring worker."),
    Variable("TONEARM_CACHE", "Folder for converted models and decoded clips; ~/.cache/tonearm by default."),
    Variable("TONEARM_API_KEYS", "Lines NAME:SHA256 of the clients that a server lets in.", is_secret=True),
    Variable("TONEARM_API_KEY_FILE", "File of such lines, as `tonearm serve --api-key-file`."),
    Variable("TONEARM_API_KEY", "The key that tonearm.Client sends.", is_secret=True),
    Variable("RAY_TMPDIR", "Folder for what a local Ray writes; a short path with room."),
    Variable("RAY_AUTH_MODE", "token (the default here) or disabled: whether Ray's parts ask each other for a token."),
    Variable("RAY_AUTH_TOKEN", "The cluster's token; a local Ray has its own.", is_secret=True, read_by="Ray"),
    Variable("RAY_AUTH_TOKEN_PATH", "File with that token.", read_by="Ray"),
    Variable("XDG_CACHE_HOME", "Folder of caches; ~/.cache by default."),
    Variable("MPLCONFIGDIR", "Folder for matplotlib's cache."),
    Variable("PYTHONPATH", "Where Python finds packages; the current folder is taken out of it."),
    Variable("NO_PROXY", "Hosts that are reached without a proxy; Ray's are added. Also no_proxy."),
    Variable("MLFLOW_EXPERIMENT_NAME", "Experiment for `tonearm train --tracker mlflow`; tonearm by default."),
    Variable("WANDB_PROJECT", "Project for `tonearm train --tracker wandb`; tonearm by default."),
    Variable("AWS_PROFILE", "Profile of ~/.aws for s3://.", read_by="s3fs"),
    Variable("AWS_ACCESS_KEY_ID", "Key for s3://, with AWS_SECRET_ACCESS_KEY.", is_secret=True, read_by="s3fs"),
    Variable("AWS_ENDPOINT_URL", "Server for s3:// that is not Amazon's.", read_by="s3fs"),
    Variable("HF_TOKEN", "Token for private models and for publish.", is_secret=True, read_by="huggingface_hub"),
    Variable("HF_HOME", "Folder for downloaded models.", read_by="huggingface_hub"),
    Variable("HF_HUB_OFFLINE", "1: download nothing.", read_by="huggingface_hub"),
    Variable("TMPDIR", "Folder for temporary files.", read_by="Python"),
)
