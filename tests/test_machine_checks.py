"""What is looked at on this machine and for each engine of a profile, and what counts as missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.numpy import save_file

from sceneloom.datasets.errors import EngineError
from sceneloom.resources import machine_checks
from sceneloom.resources.machine_checks import (
    NEEDED_LIBRARIES,
    OPTIONAL_LIBRARIES,
    Check,
    engine_checks,
    require_engines,
)
from sceneloom.resources.profiles import Profile, load_profile
from sceneloom.resources.worker_settings import VipeSettings, WorkerEnvironment


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def profile_with(folder: Path, **changes: Any) -> Profile:
    content = {
        "format": "sceneloom.profile/1",
        "collection": {"name": "rooms", "sources": ["prompts.txt"]},
        "store": {"url": "store"},
        "frames": {"count": 17, "height": 176, "width": 320},
        "trajectories": {"names": ["left"]},
        **changes,
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(content))
    return load_profile(folder / "profile.yaml")


def with_flux(folder: Path, **settings: Any) -> Profile:
    """A profile whose pictures for prompts come from a Flux model."""
    engines = {
        "conditioning_view": {"prompt": {"engine": "flux", **settings}},
        "scene_scaffold": {"prompt": "tour_into_picture"},
    }
    return profile_with(folder, engines=engines)


def write_flux(folder: Path, *, values: int = 1000) -> Path:
    """The files of a pipeline with one part: enough for what is looked at without loading."""
    (folder / "transformer").mkdir(parents=True)
    save_file({"x": np.zeros(values, np.float16)}, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    (folder / "transformer" / "config.json").write_text("{}")
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n")
    return folder


def check_of(checks: list[Check], subject: str) -> Check:
    [found] = [check for check in checks if check.subject.startswith(subject)]
    return found


def view_check(profile: Profile) -> Check:
    return check_of(engine_checks(profile), "engines.conditioning_view.prompt")


def machine_check(profile: Profile, subject: str) -> Check:
    return check_of(machine_checks.machine_checks(profile), subject)


# ---------------------------------------------------------------- the machine


def test_this_machine_has_what_the_embedded_tier_needs(tmp_path: Path) -> None:
    profile = profile_with(tmp_path)
    checks = [*machine_checks.machine_checks(profile), *engine_checks(profile)]
    assert [check for check in checks if check.verdict == "missing"] == []
    subjects = {check.subject for check in checks}
    assert {"processor", "memory", "store", "video", "model hub"} <= subjects
    assert {*NEEDED_LIBRARIES, *OPTIONAL_LIBRARIES} <= subjects


def test_the_store_s_disk_is_the_one_it_will_lie_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profile_with(tmp_path)
    found = machine_check(profile, "store")
    assert found.verdict == "ok"
    assert str(tmp_path / "store") in found.found
    asked: list[str] = []
    monkeypatch.setattr(machine_checks.os, "access", lambda path, mode: asked.append(str(path)))
    assert machine_check(profile, "store").verdict == "missing"
    assert asked == [str(tmp_path)]
    monkeypatch.undo()
    monkeypatch.setattr(machine_checks, "_LITTLE_DISK", float("inf"))
    assert machine_check(profile, "store").verdict == "note"
    assert machine_check(profile_with(tmp_path, store={"url": "s3://bucket/scenes"}), "store").found == (
        "s3://bucket/scenes"
    )


def test_gpus_are_listed_with_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"H100 number {index}")
    assert machine_check(profile_with(tmp_path), "GPU cuda:1") == Check(
        "GPU cuda:1", "H100 number 1, 80 GB, 10 GB free"
    )


def test_a_driver_without_a_torch_that_uses_it_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine_checks.shutil, "which", lambda name: None)
    assert machine_check(profile_with(tmp_path), "GPU").found.startswith("none")
    monkeypatch.setattr(machine_checks.shutil, "which", lambda name: f"/usr/bin/{name}")
    found = machine_check(profile_with(tmp_path), "GPU")
    assert "a driver is installed" in found.found
    assert "CUDA build of torch" in found.remedy


def test_video_without_an_encoder_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert machine_check(profile_with(tmp_path), "video").verdict == "missing"


def test_an_optional_library_that_is_not_installed_is_a_note_with_its_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    monkeypatch.setattr(machine_checks.importlib.util, "find_spec", lambda name: None)
    assert machine_check(profile_with(tmp_path), "gsplat") == Check(
        "gsplat", "not installed", "note", "pip install gsplat, for Gaussians on CUDA"
    )
    assert machine_check(profile_with(tmp_path), "ftfy") == Check(
        "ftfy", "not installed", "missing", "pip install ftfy, for the prompts of Wan"
    )


def test_a_token_is_told_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profile_with(tmp_path)
    assert machine_check(profile, "model hub").found.startswith("no token")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = machine_check(profile, "model hub")
    assert found.found.startswith("a token is set")
    assert found.verdict == "ok"
    assert all("secret" not in str(check) for check in machine_checks.machine_checks(profile))


# ---------------------------------------------------------------- engines


def test_each_engine_has_a_line_with_its_place_in_the_profile(tmp_path: Path) -> None:
    checks = engine_checks(profile_with(tmp_path))
    assert check_of(checks, "engines.video_latents").subject == "engines.video_latents (raycast)"
    assert "sceneloom-cosmos-8x8x8" in check_of(checks, "engines.latent_codec").found
    assert "commercial use: allowed" in check_of(checks, "engines.latent_codec").found


def test_a_model_s_weights_memory_and_licence_are_told(tmp_path: Path) -> None:
    folder = write_flux(tmp_path / "flux", values=1_000_000)
    found = view_check(with_flux(tmp_path, path=str(folder)))
    assert found.subject == "engines.conditioning_view.prompt (flux)"
    assert found.verdict == "ok"
    assert found.found == (
        f"{folder}, 0.002 GB on cpu as bfloat16, licence flux-1-dev-non-commercial-license (commercial use: forbidden)"
    )


def test_weights_that_are_not_here_are_missing_with_the_way_to_get_them(tmp_path: Path) -> None:
    found = view_check(with_flux(tmp_path, id="black-forest-labs/FLUX.1-dev"))
    assert found.verdict == "missing"
    assert "not in the local hub cache" in found.found
    assert "hf download black-forest-labs/FLUX.1-dev" in found.remedy


def test_a_codecs_weights_that_are_not_here_are_missing_likewise(tmp_path: Path) -> None:
    codec = {"id": "nvidia/Cosmos-1.0-Tokenizer-CV8x8x8", "revision": "v1"}
    profile = profile_with(tmp_path, engines={"latent_codec": codec})
    found = check_of(engine_checks(profile), "engines.latent_codec")
    assert found.verdict == "missing"
    assert "not in the local hub cache" in found.found
    assert found.remedy == f"Download them: hf download {codec['id']} --revision v1"
    with pytest.raises(EngineError, match="not in the local hub cache"):
        machine_checks.require_engines(profile, {"prompt"})


def test_a_device_that_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = write_flux(tmp_path / "flux")
    assert "the device cuda is not there" in view_check(with_flux(tmp_path, path=str(folder), device="cuda")).found
    rays = profile_with(tmp_path, engines={"video_latents": {"engine": "raycast", "device": "cuda:3"}})
    assert check_of(engine_checks(rays), "engines.video_latents").verdict == "missing"
    codec = {"id": "sceneloom-cosmos-8x8x8", "device": "cuda"}
    assert check_of(
        engine_checks(profile_with(tmp_path, engines={"latent_codec": codec})), "engines.latent_c"
    ).verdict == ("missing")


def test_a_library_that_a_setting_needs_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sceneloom.resources import model_loading

    monkeypatch.setattr(model_loading, "_is_installed", lambda name: False)
    folder = write_flux(tmp_path / "flux")
    found = view_check(with_flux(tmp_path, path=str(folder), quantisation="torchao_int8"))
    assert "needs the library torchao" in found.found
    index = {"_class_name": "WanVACEPipeline", "transformer": ["diffusers", "WanVACETransformer3DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "needs the library accelerate" in view_check(with_flux(tmp_path, path=str(folder))).found


def test_a_model_that_does_not_fit_is_missing_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_flux(tmp_path / "flux")
    found = view_check(with_flux(tmp_path, path=str(folder), device_memory="1000 TB"))
    assert found.verdict == "missing"
    assert "1e+06 GB are needed, the memory of cpu is" in found.found
    profile = with_flux(tmp_path, path=str(folder), device_memory="4 GB")
    assert view_check(profile).verdict == "ok"
    tight = profile.execution.model_copy(update={"device_memory": 2.0})
    found = view_check(profile.model_copy(update={"execution": tight}))
    assert "4 GB are needed, execution.device_memory is 2 GB" in found.found


def test_a_worker_s_environment_is_looked_for(tmp_path: Path) -> None:
    def found(interpreter: str) -> Check:
        worker = VipeSettings(environment=WorkerEnvironment(interpreter=interpreter))
        [check] = machine_checks.section_checks("engines.depth_and_poses", worker, profile)
        return check

    profile = profile_with(tmp_path)
    assert found(sys.executable).verdict == "ok"
    absent = found(str(tmp_path / "python"))
    assert absent.subject == "engines.depth_and_poses (vipe)"
    assert absent.verdict == "missing"
    assert absent.found == f"{tmp_path / 'python'} is no program"


def test_a_worker_s_memory_is_held_against_the_budget_of_its_device(tmp_path: Path) -> None:
    def found(memory: float) -> Check:
        environment = WorkerEnvironment(interpreter=sys.executable)
        worker = VipeSettings(environment=environment, device_memory=memory)
        [check] = machine_checks.section_checks("engines.depth_and_poses", worker, profile)
        return check

    profile = profile_with(tmp_path)
    profile = profile.model_copy(update={"execution": profile.execution.model_copy(update={"device_memory": 20.0})})
    assert (found(20.0).verdict, found(21.0).verdict) == ("ok", "missing")
    assert found(21.0).found == "21 GB are needed, execution.device_memory is 20 GB"


def test_everything_that_is_missing_is_refused_at_once(tmp_path: Path) -> None:
    require_engines(profile_with(tmp_path), {"prompt", "image"})
    engines = {
        "conditioning_view": {"prompt": {"engine": "flux", "id": "owner/name", "revision": "v2"}},
        "scene_scaffold": {"prompt": "tour_into_picture"},
        "video_latents": {"engine": "raycast", "device": "cuda:77"},
    }
    with pytest.raises(EngineError) as raised:
        require_engines(profile_with(tmp_path, engines=engines), {"prompt", "image"})
    first, second = str(raised.value).splitlines()
    assert first.startswith("engines.conditioning_view.prompt (flux): owner/name: the model's files are not")
    assert first.endswith("hf download owner/name --revision v2")
    assert second.startswith("engines.video_latents (raycast): raycast: the device cuda:77 is not there")


def test_engines_of_kinds_that_nobody_makes_are_not_asked_for(tmp_path: Path) -> None:
    absent = {"id": "owner/absent"}
    engines = {
        "conditioning_view": {"prompt": {"engine": "flux", **absent}},
        "scene_scaffold": {"prompt": "tour_into_picture"},
        "text_encoder": absent,
    }
    profile = profile_with(tmp_path, engines=engines)
    require_engines(profile, {"image"})
    with pytest.raises(EngineError, match=r"conditioning_view.prompt.*not in the local hub cache"):
        require_engines(profile, {"prompt", "image"})
    # Whoever asks for the whole profile is told all the same.
    assert check_of(engine_checks(profile), "engines.text_encoder").verdict == "missing"
