from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneloom.datasets import object_table
from sceneloom.datasets.errors import ContractError, InputError
from sceneloom.datasets.object_table import ObjectRow
from sceneloom.datasets.parquet import read_parquet, write_parquet

COLUMNS = [
    "scene_id",
    "model_id",
    "translation",
    "rotation",
    "scale",
    "vggt_feature",
    "masked_image_path",
    "scene_image_path",
    "sha256",
    "file_identifier",
    "aesthetic_score",
    "captions",
    "rendered",
    "voxelized",
    "num_voxels",
    "cond_rendered",
    "local_path",
    "ss_latent_ss_enc_conv3d_16l8_fp16",
]


def row(scene: str, index: int, **changes: object) -> ObjectRow:
    base = ObjectRow(
        scene_name=scene,
        object_index=index,
        instance_id=index + 1,
        family="chair",
        object_name="red wooden chair",
        visible_pixels=900,
        visibility=0.75,
        mask_box=(10, 20, 40, 60),
        size=(0.5, 0.9, 0.5),
        camera_from_object=tuple(np.eye(4).ravel().tolist()),
        translation=(0.1, -0.2, -2.5),
        rotation=(-12.0, 35.5, 1e-9),
        scale=0.9,
        sha256="ab" * 32,
        aesthetic_score=5.0,
        captions=('a "red", wooden chair', "ein Stuhl für zwei"),
        num_voxels=1234,
        rendered=True,
        voxelized=True,
        cond_rendered=True,
        ss_latent=True,
    )
    return dataclasses.replace(base, **changes)  # pyright: ignore[reportArgumentType]


def rows() -> list[ObjectRow]:
    return [*(row("attic-02", index) for index in range(4)), *(row("den-01", index) for index in (1, 0, 2))]


def table() -> pa.Table:
    return object_table.object_table(rows(), {"attic-02": "1000001", "den-01": "1000002"})


def scenegen_training_rows(content: bytes) -> list[dict[str, str]]:
    """The rows that SceneGen's dataset class keeps: its filters, in its order, on the CSV's text."""
    kept = list(csv.DictReader(io.StringIO(content.decode())))
    kept = [one for one in kept if one["ss_latent_ss_enc_conv3d_16l8_fp16"] == "True"]
    kept = [one for one in kept if float(one["aesthetic_score"]) >= 4.5 and one["vggt_feature"]]
    kept = [one for one in kept if one["cond_rendered"] == "True"]
    kept = [one for one in kept if one["masked_image_path"] and one["scene_image_path"]]
    counts = {one["scene_id"]: sum(o["scene_id"] == one["scene_id"] for o in kept) for one in kept}
    return [one for one in kept if counts[one["scene_id"]] <= 16 and len(one["scene_id"]) == 7]


def test_csv_has_scenegens_columns_and_its_readers_keep_every_row() -> None:
    content = object_table.to_csv(table())
    assert content.decode().splitlines()[0].split(",") == COLUMNS
    kept = scenegen_training_rows(content)
    assert len(kept) == 7
    first = kept[0]
    assert first["scene_id"] == "1000001"
    # A second reading as integers, as pandas does, gives the same seven digits.
    assert str(int(first["scene_id"])) == first["scene_id"]
    assert first["translation"] == "[0.1, -0.2, -2.5]"
    assert json.loads(first["rotation"]) == [-12.0, 35.5, 1e-9]
    assert json.loads(first["captions"]) == ['a "red", wooden chair', "ein Stuhl für zwei"]
    assert first["rendered"] == "True"
    assert first["masked_image_path"] == "masked_images/1000001/0.png"
    assert first["scene_image_path"] == "masked_images/1000001/scene.jpg"
    assert first["vggt_feature"] == "vggt_features/1000001.npz"
    assert first["local_path"] == f"raw/{first['file_identifier']}/raw_model.obj"


def test_rows_are_ordered_and_paths_are_relative() -> None:
    made = table()
    assert made["scene_name"].to_pylist() == ["attic-02"] * 4 + ["den-01"] * 3
    assert made["object_index"].to_pylist() == [0, 1, 2, 3, 0, 1, 2]
    assert made["mask_path"].to_pylist()[4] == "masked_images/1000002/0_mask.png"
    for name in ("mask_path", "masked_image_path", "scene_image_path", "vggt_feature", "local_path"):
        assert not any(path.startswith("/") or ".." in path for path in made[name].to_pylist())


def test_csv_reads_back_equal() -> None:
    made = table()
    read = object_table.from_csv(object_table.to_csv(made))
    assert read.equals(made.select(object_table.SCENEGEN_CSV.names).cast(object_table.SCENEGEN_CSV))
    assert object_table.to_csv(read) == object_table.to_csv(made)


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(
    translation=st.tuples(finite, finite, finite),
    scale=finite,
    captions=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=3),
)
def test_any_pose_and_caption_survives_the_csv(
    translation: tuple[float, float, float], scale: float, captions: list[str]
) -> None:
    made = object_table.object_table(
        [row("den", 0, translation=translation, scale=scale, captions=tuple(captions))], {"den": "1000001"}
    )
    read = object_table.from_csv(object_table.to_csv(made)).to_pylist()[0]
    assert read["translation"] == list(translation)
    assert read["scale"] == scale
    assert read["captions"] == captions


def test_parquet_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "scenegen_metadata.parquet"
    write_parquet(path, table(), object_table.SCENEGEN_METADATA)
    read = read_parquet(path, object_table.SCENEGEN_METADATA)
    assert read.equals(table())
    assert object_table.scene_numbers(read) == {"attic-02": "1000001", "den-01": "1000002"}


def test_numbers_stay_with_their_scenes() -> None:
    first = object_table.number_scenes(["den", "attic"], "house")
    # "attic" leaves, "aisle" and "cellar" come: no number moves, none is used twice.
    second = object_table.number_scenes(["cellar", "den", "aisle"], "house", first)
    assert second.items() > first.items()
    assert second.keys() == {"aisle", "attic", "cellar", "den"}
    assert len(set(second.values())) == 4
    # Made in another order, or from nothing, each scene gets the same number.
    assert object_table.number_scenes(["aisle", "attic", "cellar", "den"], "house") == second


def test_numbers_are_seven_digits_and_differ_over_collections() -> None:
    names = [f"scene-{index}" for index in range(2000)]
    house, garden = (object_table.number_scenes(names, collection) for collection in ("house", "garden"))
    for numbers in (house, garden):
        assert len(set(numbers.values())) == len(names)
        assert all(1_000_001 <= int(number) <= 9_999_999 for number in numbers.values())
    # 2000 × 2000 pairs of nine million numbers: about one in two runs would share one or two.
    assert len(set(house.values()) & set(garden.values())) < 6


def test_a_taken_number_is_never_given_again() -> None:
    [wanted] = object_table.number_scenes(["den"], "house").values()
    taken = object_table.number_scenes(["den"], "house", {"gone": wanted})
    assert taken["gone"] == wanted
    assert taken["den"] != wanted
    assert object_table.number_scenes(["den"], "house", {"gone": wanted}) == taken


def test_numbers_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_table, "LAST_SCENE_NUMBER", 1_000_008)
    names = ["attic", "cellar", "den", "hall"]
    assert len(set(object_table.number_scenes(names, "house").values())) == 4
    with pytest.raises(InputError, match="more than 4 scenes"):
        object_table.number_scenes([*names, "loft"], "house")


def test_a_good_table_has_no_problems() -> None:
    assert object_table.scenegen_problems(table()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"aesthetic_score": 4.4}, "aesthetic_score 4.4 is below 4.5"),
        ({"aesthetic_score": math.nan}, "aesthetic_score nan is below 4.5"),
        ({"ss_latent": False}, "ss_latent_ss_enc_conv3d_16l8_fp16 is False"),
        ({"cond_rendered": False}, "cond_rendered is False"),
        ({"sha256": ""}, "sha256 is empty"),
        ({"scale": 0.0}, "its scale not positive"),
        ({"translation": (0.0, math.inf, 0.0)}, "the pose is not finite"),
    ],
)
def test_rows_that_training_would_lose_are_named(changes: dict[str, object], problem: str) -> None:
    made = object_table.object_table([*rows()[:3], row("attic-02", 3, **changes)], {"attic-02": "1000001"})
    (found,) = object_table.scenegen_problems(made)
    assert found.startswith("scene 1000001, model attic-02-3: ")
    assert problem in found


def test_scenes_that_training_would_lose_are_named() -> None:
    crowd = [row("crowd", index) for index in range(17)]
    found = object_table.scenegen_problems(object_table.object_table(crowd, {"crowd": "1000001"}))
    assert found == [
        "scene 1000001: 17 objects, SceneGen takes at most 16",
        "no scene has exactly 4 objects, which the trainer's snapshot needs",
    ]
    short = object_table.object_table(rows()[:4], {"attic-02": "0000001"})
    assert 'scene_id "0000001", expected a number from 1000001' in object_table.scenegen_problems(short)[0]


def test_gaps_and_repeats_in_a_scene_are_refused() -> None:
    for indices in ([0, 2], [0, 0], [1]):
        with pytest.raises(ContractError, match="object indices"):
            object_table.object_table([row("den", index) for index in indices], {"den": "1000001"})


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    made = object_table.object_table([row("den", 0, rotation=(0.0, math.nan, 0.0))], {"den": "1000001"})
    with pytest.raises(ContractError, match="not finite"):
        object_table.to_csv(made)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("scene_id,", "id,", "columns"),
        ("True", "", "rendered"),
        ('"[0.1, -0.2, -2.5]"', '"[np.float64(0.1), 0, 0]"', "translation"),
        ('"[0.1, -0.2, -2.5]"', '"[0.1, -0.2]"', "translation"),
        (",1234,", ",many,", "num_voxels"),
        (",0.9,", ",", "17 cells, expected 18"),
    ],
)
def test_a_csv_of_another_form_is_refused(old: str, new: str, found: str) -> None:
    text = object_table.to_csv(table()).decode()
    assert old in text
    with pytest.raises(InputError, match=found) as raised:
        object_table.from_csv(text.replace(old, new, 1).encode())
    assert raised.value.where in ("metadata_scene.csv:1", "metadata_scene.csv:2")


def test_a_root_with_a_dot_is_refused() -> None:
    object_table.require_scenegen_root("/data/rooms")
    for root in ("./data", "/data/v1.0"):
        with pytest.raises(InputError, match="without dots"):
            object_table.require_scenegen_root(root)
    with pytest.raises(InputError, match="takes it for two roots"):
        object_table.require_scenegen_root("/data/a,b")
