"""serve/config.yaml says what `serve deploy` takes, and names the settings and deployments that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tonearm.errors import SettingsError
from tonearm.settings import ServeSettings, build

CONFIG = Path(__file__).resolve().parents[2] / "serve" / "config.yaml"


def read_config() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return values


def test_serve_deploy_takes_it() -> None:
    (application,) = ServeDeploySchema.model_validate(read_config()).applications
    assert {deployment.name for deployment in application.deployments} == {"Ingress", "Decoder", "Genre", "Tags"}
    for deployment in application.deployments:
        assert deployment.autoscaling_config["max_replicas"] > deployment.autoscaling_config["min_replicas"]


def test_its_arguments_are_settings() -> None:
    (application,) = read_config()["applications"]
    settings = build(ServeSettings, application["args"])
    assert settings == ServeSettings()  # what it spells out are the defaults
    with pytest.raises(SettingsError, match="did you mean 'max_queue'"):
        build(ServeSettings, {**application["args"], "max_queu": 3})


def test_the_entry_point_holds_no_logic() -> None:
    assert len((CONFIG.parent / "app.py").read_text().splitlines()) <= 30


def test_demo_models_by_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.distributed.serving import app

    made: list[ServeSettings] = []
    monkeypatch.setattr(app, "application", made.append)
    app.build({"demo_models": True, "max_queue": 3, "models": {"batch_size": 2}})
    assert made[0].models.genre_model is not None
    assert made[0].models.genre_model.endswith("demo/models/genre")
    assert (made[0].max_queue, made[0].models.batch_size) == (3, 2)
