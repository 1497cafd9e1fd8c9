"""What engines around single transformers models share: files, contract, one model a process, one user at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from sceneloom.datasets.errors import EngineError
from sceneloom.resources.engines import Part
from sceneloom.resources.model_engine import ModelEngine, load_processor
from sceneloom.resources.model_settings import ModelSettings
from sceneloom.resources.resident_models import ResidentModels

from .tiny_transformers import save_depth_anything


class DepthModel(ModelEngine):
    """The smallest engine: a model and nothing else."""

    name: ClassVar[str] = "depth_model"
    needs: ClassVar[frozenset[Part]] = frozenset({"view"})
    gives: ClassVar[frozenset[Part]] = frozenset({"depth"})
    model_class: ClassVar[str] = "DepthAnythingForDepthEstimation"


class OtherWay(DepthModel):
    """Loads the same files in another way."""

    def loaded_with(self) -> dict[str, Any]:
        """Sets it apart from DepthModel."""
        return {"way": "other"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("engine")
    save_depth_anything(place)
    (place / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return place


def settings(folder: Path, **changes: Any) -> ModelSettings:
    return ModelSettings.model_validate({"path": str(folder), "precision": "float32", **changes})


def test_the_contract_is_known_without_loading(folder: Path) -> None:
    models = ResidentModels(None)
    engine = DepthModel(settings(folder), models)
    assert engine.contract.licence == "apache-2.0"
    assert engine.contract.gives == {"depth"}
    assert engine.contract.tier == "library"
    half = DepthModel(settings(folder, precision="bfloat16"))
    assert 2 * half.contract.device_memory_bytes == pytest.approx(engine.contract.device_memory_bytes, abs=2)
    assert DepthModel(settings(folder, device_memory=3.5)).contract.device_memory_bytes == 3_500_000_000
    assert engine.identity.for_key()["weights"]["model.safetensors"]
    assert models.counters()["loads"] == {}
    assert engine.place == f"depth_model: {folder.name}"


def test_facts_say_how_the_model_is_run(folder: Path) -> None:
    facts = DepthModel(settings(folder, licence="MIT")).facts()
    assert facts["licence"] == "MIT"
    assert facts["precision"] == "float32"
    assert facts["versions"]["transformers"]


def test_a_model_is_shared_by_those_that_load_it_alike(folder: Path) -> None:
    models = ResidentModels(None)
    with DepthModel(settings(folder), models).model() as first:
        pass
    with DepthModel(settings(folder, licence="MIT"), models).model() as second:
        pass
    with DepthModel(settings(folder), models).model() as third, OtherWay(settings(folder), models).model() as other:
        assert other is not third
    assert first is third
    assert sorted(models.counters()["loads"].values()) == [1, 1]
    assert second is first


def test_a_model_works_for_one_thread_at_a_time_and_without_gradients(folder: Path) -> None:
    engine = DepthModel(settings(folder))
    inside, most = [0], [0]
    grown = threading.Lock()

    def work() -> None:
        with engine.model() as model:
            with grown:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            assert not model(pixel_values=torch.zeros(1, 3, 70, 70)).predicted_depth.requires_grad
            with grown:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_missing_files_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(EngineError, match="no such folder"):
        _ = DepthModel(settings(tmp_path / "absent")).contract
    with pytest.raises(EngineError, match="AutoTokenizer cannot be loaded"):
        load_processor("AutoTokenizer", folder)
