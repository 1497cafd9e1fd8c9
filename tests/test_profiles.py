from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from sceneloom.datasets.errors import ConfigError
from sceneloom.ops.quality import QualityThresholds
from sceneloom.ops.trajectories import LYRA_REVERSED_VIEWS, LYRA_VIEWS
from sceneloom.orchestration import config_commands
from sceneloom.resources import profiles
from sceneloom.resources.profiles import load_profile

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BASE = """\
format: sceneloom.profile/1
collection:
  name: rooms
  sources: [prompts.txt, "s3://bucket/pictures", ~/more]
store: {url: store}
frames: {count: 17, height: 176, width: 320}
trajectories:
  names: [left, up]
"""


def write(folder: Path, text: str = BASE) -> Path:
    file = folder / "profile.yaml"
    file.write_text(text)
    return file


def refusal(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_profile(write(folder, text))
    return raised.value


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path))
    assert profile.view.horizontal_field_of_view == 75.0
    assert profile.engines.latent_codec.weights == profiles.SHIPPED_CODEC
    assert profile.trajectories.translation == "true"
    assert profile.file == tmp_path / "profile.yaml"


def test_relative_paths_start_at_the_profiles_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/someone")
    for name in (file, Path("../profile.yaml")):
        profile = load_profile(name)
        assert profile.collection.sources == (
            str(tmp_path / "prompts.txt"),
            "s3://bucket/pictures",
            "/home/someone/more",
        )
        assert profile.store.url == str(tmp_path / "store")


def test_environment_names_the_profile_unless_a_path_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profiles.PROFILE_VARIABLE, str(write(tmp_path)))
    assert load_profile().collection.name == "rooms"
    assert load_profile(CONFIGS / "demo.yaml").collection.name == "demo"
    monkeypatch.delenv(profiles.PROFILE_VARIABLE)
    assert load_profile().collection.name == "demo"


def test_shipped_profiles_are_valid_and_have_the_stated_sizes() -> None:
    demo, lyra = load_profile(CONFIGS / "demo.yaml"), load_profile(CONFIGS / "lyra_static.yaml")
    assert (demo.frames.count, demo.frames.height, demo.frames.width) == (17, 176, 320)
    assert (lyra.frames.count, lyra.frames.height, lyra.frames.width) == (121, 704, 1280)
    assert lyra.trajectories.names == ("left", "right", "up", "zoom_out", "zoom_in", "clockwise")
    dynamic = load_profile(CONFIGS / "lyra_dynamic.yaml")
    assert dynamic.trajectories.names == (*LYRA_VIEWS, *LYRA_REVERSED_VIEWS)
    assert dynamic.frames == lyra.frames
    assert dynamic.motion.objects > 0
    assert (demo.motion.objects, lyra.motion.objects) == (0, 0)
    for name in ("demo.yaml", "lyra_static.yaml", "lyra_dynamic.yaml"):
        jsonschema.validate(yaml.safe_load((CONFIGS / name).read_text()), profiles.schema())


def test_schema_refuses_what_the_loader_refuses() -> None:
    document = yaml.safe_load(BASE)
    jsonschema.validate(document, profiles.schema())
    document["frames"]["heigth"] = 176
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, profiles.schema())


@pytest.mark.parametrize("name", ["demo.yaml", "lyra_static.yaml", "lyra_dynamic.yaml"])
def test_shown_profile_reads_back_equal(name: str, tmp_path: Path) -> None:
    profile = load_profile(CONFIGS / name)
    shown = profiles.show(profile)
    assert "minimum_clearance: 0.15 m" in shown
    assert load_profile(write(tmp_path, shown)).model_dump() == profile.model_dump()


@pytest.mark.parametrize("word", ["true", '"true"'])
def test_bare_true_is_the_word_true(word: str, tmp_path: Path) -> None:
    assert load_profile(write(tmp_path, BASE + f"  translation: {word}\n")).trajectories.translation == "true"


def test_quality_limits_are_those_that_clips_are_judged_by(tmp_path: Path) -> None:
    text = BASE + "quality: {minimum_clearance: 8 cm, maximum_flicker: null}\n"
    limits = load_profile(write(tmp_path, text)).quality
    assert isinstance(limits, QualityThresholds)
    assert limits.minimum_clearance == 0.08
    assert limits.maximum_flicker is None
    assert limits.maximum_photometric_error == QualityThresholds.model_validate({}).maximum_photometric_error


def test_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, BASE + "  minimum_clearance: 1e-2\n"))
    assert profile.trajectories.minimum_clearance == 0.01


def test_camera_files_are_trajectories_too(tmp_path: Path) -> None:
    text = BASE.replace("[left, up]", "[left, walk]") + "  files: {walk: cameras/walk.npz}\n"
    profile = load_profile(write(tmp_path, text))
    assert profile.trajectories.files["walk"].path == str(tmp_path / "cameras/walk.npz")
    assert profile.trajectories.files["walk"].metres_per_unit == 1.0


def test_a_camera_file_may_have_a_unit_of_its_own(tmp_path: Path) -> None:
    text = BASE.replace("[left, up]", "[left, walk]") + "  files: {walk: {path: a.npz, metres_per_unit: 2.5}}\n"
    assert load_profile(write(tmp_path, text)).trajectories.files["walk"].metres_per_unit == 2.5


@pytest.mark.parametrize(
    ("old", "new", "where", "found", "remedy"),
    [
        ("count: 17", "coutn: 17", "profile.yaml:6: frames.coutn", 'unknown key "coutn"', 'Did you mean "count"?'),
        ("count: 17", "count: 18", "profile.yaml:6: frames.count", "18 frames, not 8k + 1", "17 and 25"),
        ("height: 176", "height: 180", "profile.yaml:6: frames.height", "not a multiple of 16", "176 and 192"),
        ("height: 176", "height: 176.5", "profile.yaml:6: frames.height", "176.5 is refused", "multiple of 16"),
        ("name: rooms", "name: My Rooms", ":3: collection.name", '"My Rooms" is refused', "small letters"),
        ("  name: rooms\n", "", "profile.yaml:2: collection.name", 'the key "name" is missing', "Add it"),
        ("left, up", "left, lft", "profile.yaml:8: trajectories.names[1]", 'trajectory "lft"', 'Did you mean "left"?'),
        ("left, up", "left, left", "profile.yaml:8: trajectories.names[1]", "listed twice", "List it once"),
        ("left, up]", "up]\n  files: {left: a.npz}", ":9: trajectories.files.left", "built-in", "another name"),
        ("left, up]", "up]\n  files: {walk: a.npz}", ":9: trajectories.files.walk", "not used", "trajectories.names"),
        ("profile/1", "profile/2", "profile.yaml:1: format", "sceneloom.profile/1", "Version"),
        (
            "store: {url: store}",
            "store: store",
            "profile.yaml:5: store",
            '"store" is refused',
            "everything made is kept",
        ),
        ("sources: [", "sources: [17, ", "profile.yaml:4: collection.sources[0]", "17 is refused", "Prompt files"),
        ("store: {url: store}", "store: {url: store", "profile.yaml:6", "not valid YAML", "quotes"),
    ],
)
def test_refusals_name_line_key_and_remedy(
    old: str, new: str, where: str, found: str, remedy: str, tmp_path: Path
) -> None:
    assert old in BASE
    error = refusal(tmp_path, BASE.replace(old, new))
    assert error.where.endswith(where)
    assert found in error.found
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("added", "where", "found"),
    [
        ("seed: 1\nseed: 2", ":10: (top level)", 'key "seed" is given twice (first on line 9)'),
        ("seed: true", ":9: seed", "true is refused"),
        ("shards: {minimum_psnr: 29}", ":9: shards.minimum_psnr", "29 is refused"),
        ("shards: {minimum_psnr: 51}", ":9: shards.minimum_psnr", "51 is refused"),
        ("seed: -1", ":9: seed", "-1 is refused"),
        ("on: 1", ":9: (top level)", "read by YAML as bool"),
        ("view: {horizontal_field_of_view: 75 cm}", ":9: view.horizontal_field_of_view", '"cm" is a unit of length'),
        ("view: {horizontal_field_of_view: 150 deg}", ":9: view.horizontal_field_of_view", '"150 deg" is refused'),
        ("engines: {video_latents: {engine: raycats}}", ":9: engines.video_latents", 'unknown engine "raycats"'),
        ("engines: {video_latents: raycats}", ":9: engines.video_latents", 'unknown engine "raycats"'),
        ("engines: {video_latents: 3}", ":9: engines.video_latents", "3 is refused"),
        ("engines: {latent_codec: {}}", ":9: engines.latent_codec", "neither id nor path"),
        ("engines: {latent_codec: {id: a, path: b}}", ":9: engines.latent_codec", "both id and path"),
        ("quality: {minimum_sharpness: .nan}", ":9: quality.minimum_sharpness", "finite"),
        ("quality: {minimum_sharpnes: 1}", ":9: quality.minimum_sharpnes", "unknown key"),
        ("quality: {minimum_clearance: 5 s}", ":9: quality.minimum_clearance", "unit of time"),
        ("execution: {device_memory: 8 m}", ":9: execution.device_memory", '"m" is a unit of length'),
        ("view: &again {x: *again}", ":9", '"view.x" contains itself'),
        ("---\nseed: 1", ":9", "another document"),
    ],
)
def test_additions_that_are_refused(added: str, where: str, found: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, BASE + added + "\n")
    assert error.where.endswith(where)
    assert found in error.found


def test_split_must_add_up(tmp_path: Path) -> None:
    text = BASE.replace("  name: rooms", "  name: rooms\n  split: {train: 0.9, validation: 0.1, test: 0.1}")
    assert "add up to 1.1" in refusal(tmp_path, text).found


def test_every_refusal_is_told_in_the_order_of_lines(tmp_path: Path) -> None:
    text = BASE.replace("height: 176", "height: 180") + "sed: 3\nvideo: {constant_rate_factor: 99}\n"
    lines = str(refusal(tmp_path, text)).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["frames.height", "sed", "video.constant_rate_factor"]


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "empty"), (b"[1, 2]", "mapping"), (b"\xff\xfe", "UTF-8"), (b"a: \x07", "not valid YAML")],
)
def test_files_that_are_no_profile(content: bytes, found: str, tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=found):
        load_profile(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: the profile cannot be read"):
        load_profile(tmp_path / "absent.yaml")


def test_merged_mappings_keep_their_lines(tmp_path: Path) -> None:
    text = BASE + "x: &speed {constant_rate_factor: 99}\nvideo: {<<: *speed}\n"
    error = refusal(tmp_path, text)
    assert error.where.endswith(":9: video.constant_rate_factor")
    assert 'profile.yaml:9: x: unknown key "x"' in str(error)


def test_commands(tmp_path: Path) -> None:
    runner = CliRunner()
    good, bad = write(tmp_path), tmp_path / "bad.yaml"
    bad.write_text(BASE.replace("count: 17", "count: 16"))
    assert runner.invoke(config_commands.app, ["validate", str(good)]).exit_code == 0
    refused = runner.invoke(config_commands.app, ["validate", str(bad)])
    assert refused.exit_code == 1
    assert "frames.count" in refused.stderr
    shown = runner.invoke(config_commands.app, ["show", str(good)])
    assert yaml.safe_load(shown.stdout)["seed"] == 0
    schema = runner.invoke(config_commands.app, ["schema"])
    assert json.loads(schema.stdout)["title"] == "Profile"


GENERATED = (
    "engines:\n"
    "  conditioning_view: {prompt: {engine: flux, id: some/flux}}\n"
    "  scene_scaffold: {prompt: tour_into_picture}\n"
)


def test_an_engine_is_chosen_by_name_with_its_settings_or_alone(tmp_path: Path) -> None:
    text = BASE + "engines: {video_latents: raycast, conditioning_view: {prompt: {engine: procedural}}}\n"
    assert load_profile(write(tmp_path, text)).engines.video_latents == profiles.RaycastVideo()
    profile = load_profile(write(tmp_path, BASE + "engines: {video_latents: {samples_per_pixel: 4}}\n"))
    assert profile.engines.video_latents == profiles.RaycastVideo(samples_per_pixel=4)
    profile = load_profile(write(tmp_path, BASE + GENERATED))
    assert profile.engines.conditioning_view.prompt.engine == "flux"
    document = yaml.safe_load(BASE + GENERATED)
    jsonschema.validate(document, profiles.schema())
    document["engines"]["conditioning_view"]["prompt"]["engine"] = "fluxx"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, profiles.schema())


@pytest.mark.parametrize(
    ("added", "where", "found", "remedy"),
    [
        (
            "engines: {conditioning_view: {prompt: {engine: flux, id: some/flux, stepz: 4}}}",
            ":9: engines.conditioning_view.prompt.stepz",
            'unknown key "stepz"',
            'Did you mean "steps"?',
        ),
        (
            "engines: {conditioning_view: {prompt: {engine: flux, id: some/flux, steps: 0}}}",
            ":9: engines.conditioning_view.prompt.steps",
            "0 is refused",
            "Denoising steps",
        ),
        (
            "engines: {conditioning_view: {prompt: flux}}",
            ":9: engines.conditioning_view.prompt",
            "neither id nor path is given",
            "Give one of the two",
        ),
        (
            "engines: {conditioning_view: {prompt: {engine: flux, id: some/flux}}}",
            ":9: engines.scene_scaffold.prompt",
            "ground_truth for views of the engine flux",
            "finds depth in a picture",
        ),
        (
            "engines: {video_latents: {engine: wan_vace, id: some/wan}}",
            ":9: engines.depth_and_poses",
            "ground_truth for clips of the engine wan_vace",
            "depth_anything or depth_pro",
        ),
        (
            "engines: {latent_codec: {path: weights, tiling: true}}",
            ":9: engines.latent_codec.tiling",
            "tiling for cosmos",
            "does not grow",
        ),
        (
            "engines: {extra_latent_codecs: {Wan: {path: weights}}}",
            ":9: engines.extra_latent_codecs.Wan",
            '"Wan" cannot name a latent space',
            "small letters",
        ),
        (
            "engines: {latent_codec: {path: weights, architecture: ltx2}}",
            ":6: frames.height",
            "176 pixels, not a multiple of 32",
            "160 and 192",
        ),
    ],
)
def test_engines_that_do_not_fit_are_refused(added: str, where: str, found: str, remedy: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, BASE + added + "\n")
    assert error.where.endswith(where)
    assert found in error.found
    assert remedy in error.remedy


def test_motion_needs_engines_that_show_it(tmp_path: Path) -> None:
    text = BASE + "motion: {objects: 2}\n" + GENERATED
    assert "2 moving objects, which the video engine raycast" in refusal(tmp_path, text).found


def test_what_a_forecast_goes_by_may_stand_in_the_profile(tmp_path: Path) -> None:
    text = BASE + "forecast: {gpus: 8, seconds_per_scene: {video_latents: 20 min}}\n"
    forecast = load_profile(write(tmp_path, text)).forecast
    assert (forecast.gpus, forecast.seconds_per_scene) == (8, {"video_latents": 1200.0})


def test_the_number_of_frames_follows_the_codecs(tmp_path: Path) -> None:
    wan = "engines: {latent_codec: {path: weights, architecture: wan}}\n"
    text = BASE.replace("count: 17", "count: 21") + wan
    assert load_profile(write(tmp_path, text)).frames.count == 21
    error = refusal(tmp_path, text.replace("count: 21", "count: 20"))
    assert (error.where.rpartition(":")[2], error.found) == (" frames.count", "20 frames, not 4k + 1")
    both = text.replace("engines: {", "engines: {extra_latent_codecs: {cosmos: {path: other}}, ")
    assert "21 frames, not 8k + 1" in refusal(tmp_path, both).found


@pytest.mark.parametrize(("count", "fits"), [(17, True), (21, False)])
def test_the_number_of_frames_follows_sana_wm_too(count: int, fits: bool, tmp_path: Path) -> None:
    text = BASE.replace("count: 17", f"count: {count}").replace("height: 176", "height: 192") + (
        "engines:\n"
        "  video_latents: {engine: sana_wm, path: weights}\n"
        "  latent_codec: {path: weights, architecture: wan}\n"
        "  depth_and_poses: {engine: depth_pro, path: weights}\n"
    )
    if fits:
        assert load_profile(write(tmp_path, text)).frames.count == count
    else:
        error = refusal(tmp_path, text)
        assert error.where.endswith(":6: frames.count")
        assert (error.found, error.remedy) == (
            "SANA-WM makes clips of 8k + 1 frames, and frames.count is 21",
            "Set frames.count to 17 or 25.",
        )
