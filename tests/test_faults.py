"""Faults from end to end: the real command line in child processes that are killed, raced, starved and misled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sceneloom.assets.catalog import read_catalog
from sceneloom.datasets.object_table import SCENEGEN_METADATA
from sceneloom.datasets.parquet import read_parquet
from sceneloom.datasets.training_index import read_table
from sceneloom.resources.records import Record
from sceneloom.resources.store import SceneStore

from . import tiny
from .file_systems import small_file_system
from .tiny import STAGE_NAMES

SMALL = {"frames": {"count": 9, "height": 64, "width": 64}, "trajectories": {"names": ["left"]}}
PROMPT = "a living room with a red sofa and two chairs"
COMMAND = Path(sys.executable).with_name("sceneloom")
RUN_SECONDS = 150
KILLS = 3

Records = dict[tuple[str, str], Record]


@dataclass(frozen=True)
class Checkout:
    """A folder with sources, profile, store and Dagster's state: what a user has on disk."""

    folder: Path

    @property
    def store(self) -> SceneStore:
        return SceneStore(str(self.folder / "store"), "tiny")

    def start(self) -> subprocess.Popen[str]:
        """Start `sceneloom make`."""
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.folder / "home"),
            "SCENELOOM_CONFIG": str(self.folder / "profile.yaml"),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [COMMAND, "make"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def make(self) -> tuple[int, str]:
        """Run `sceneloom make` to its end; its exit status and all that it said, as one line."""
        return ended(self.start())

    def configure(self, **changes: Any) -> None:
        """Write the profile anew."""
        sources = ["prompts.txt", *(["images"] if (self.folder / "images").exists() else [])]
        tiny.write_profile(self.folder, sources, **{**SMALL, **changes})

    def copy(self, folder: Path) -> Checkout:
        """The same on another place; the catalogue still names pictures where they were."""
        shutil.copytree(self.folder, folder)
        copied = Checkout(folder)
        copied.configure()
        return copied

    def finished_stages(self) -> int:
        """How many records there are, whether they can be read or not."""
        return len(list(self.folder.glob("store/tiny/scenes/*/*/record.json")))

    def records(self) -> Records:
        """Every record of the store."""
        found = {}
        for scene in self.store.scenes():
            for stage in STAGE_NAMES:
                record = self.store.record(scene, stage)
                if record is not None:
                    found[scene, stage] = record
        return found

    def require_whole(self) -> Records:
        """Every stage of every scene is published and holds its checksums; nothing lies about half-done."""
        records = self.records()
        active = [scene.scene_id for scene in read_catalog(self.store).active()]
        assert {(scene, stage) for scene in active for stage in STAGE_NAMES} <= records.keys()
        reader = SceneStore(str(self.folder / "store"), "tiny")  # one that has verified nothing yet
        for record in records.values():
            for file in record.files:
                reader.fetch(record, file.path)
        assert not list((self.folder / "store" / ".staging").iterdir())
        return records

    def clip_rows(self) -> int:
        return read_table(self.store.table_url("training_index")).num_rows


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=RUN_SECONDS)
    return process.returncode, " ".join(output.split())


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for the condition, or for the process to end."""
    limit = time.monotonic() + RUN_SECONDS
    while process.poll() is None and not condition() and time.monotonic() < limit:
        time.sleep(0.005)


def stamps(records: Mapping[tuple[str, str], Record]) -> dict[tuple[str, str], tuple[str, str, str]]:
    return {name: (record.key, record.run, record.created_at) for name, record in records.items()}


def new_checkout(folder: Path) -> Checkout:
    tiny.write_sources(folder, [PROMPT])
    picture = folder / "images" / "street.jpg"
    shutil.copy(tiny.PICTURE.with_name("street.jpg"), picture)
    (folder / "home").mkdir()
    shutil.copy(Path(__file__).parent.parent / "dagster.yaml", folder / "home")
    checkout = Checkout(folder)
    checkout.configure()
    return checkout


@pytest.fixture(scope="module")
def killed_and_finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A collection that was made by a command that was killed three times on the way."""
    checkout = new_checkout(tmp_path_factory.mktemp("faults") / "checkout")
    draw = np.random.default_rng(20)
    total = 3 * len(STAGE_NAMES)
    for kill in range(KILLS):
        before = checkout.records()
        place = int(draw.integers(total * kill // (KILLS + 1), total * (kill + 1) // (KILLS + 1)))
        process = checkout.start()
        wait_until(lambda wanted=place: checkout.finished_stages() > wanted, process)
        time.sleep(draw.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        code, said = ended(process)
        assert code == -signal.SIGKILL, said
        after = checkout.records()
        assert stamps(before).items() <= stamps(after).items(), "a finished stage was made again"
        for record in after.values():
            for file in record.files:
                checkout.store.fetch(record, file.path)

    before = checkout.records()
    code, said = checkout.make()
    assert code == 0, said
    after = checkout.require_whole()
    assert len(before) < len(after) == total
    assert stamps(before).items() <= stamps(after).items()
    assert len({record.run for record in after.values()}) > 1
    return checkout


@pytest.fixture
def finished(killed_and_finished: Checkout, tmp_path: Path) -> Checkout:
    return killed_and_finished.copy(tmp_path / "checkout")


def test_what_was_killed_and_resumed_equals_what_was_made_in_one_go(
    killed_and_finished: Checkout, tmp_path: Path
) -> None:
    tiny.write_sources(tmp_path, [PROMPT])
    shutil.copy(tiny.PICTURE.with_name("street.jpg"), tmp_path / "images")
    in_one_go = tiny.make(tiny.load_profile(tiny.write_profile(tmp_path, ["prompts.txt", "images"], **SMALL)))
    resumed = killed_and_finished.records()
    for scene in in_one_go.catalog.active():
        for stage in STAGE_NAMES:
            expected, found = in_one_go.record(scene, stage), resumed[scene.scene_id, stage]
            assert found.key == expected.key
            if stage != "scene_preview":  # Rerun numbers its chunks at random
                assert found.files == expected.files, f"{scene.scene_id}/{stage}"


def test_what_kills_left_behind_is_referred_to_by_nothing(killed_and_finished: Checkout) -> None:
    store = killed_and_finished.store
    named = {f"{record.scene}/{record.stage}/{record.directory}" for record in killed_and_finished.records().values()}
    leftovers = store.leftovers()
    assert not named & {"/".join(Path(folder).parts[-3:]) for folder in leftovers.directories}
    assert killed_and_finished.clip_rows() == 3


def test_a_profile_changed_midway_counts_from_the_next_run_on_and_two_runs_at_once_end_well(
    finished: Checkout,
) -> None:
    before = finished.records()
    finished.configure(video={"constant_rate_factor": 30})
    process = finished.start()
    wait_until(lambda: stamps(finished.records()) != stamps(before), process)
    finished.configure(
        video={"constant_rate_factor": 30}, quality={"minimum_sharpness": 0.001}, objects={"minimum_visible_pixels": 20}
    )
    code, said = ended(process)
    assert code == 0, said
    first = finished.require_whole()
    assert {stage for (scene, stage), record in first.items() if record.key != before[scene, stage].key} == {
        "video_latents",
        "depth_and_poses",
        "quality_report",
        "gaussian_shards",
        "clip_captions",
        "scene_preview",
    }

    processes = [finished.start(), finished.start()]
    for code, said in [ended(process) for process in processes]:
        assert code == 0, said
    second = finished.require_whole()
    assert {stage for (scene, stage), record in second.items() if record != first[scene, stage]} == {
        "scene_objects",
        "quality_report",
        "gaussian_shards",
    }
    assert finished.clip_rows() == 3


def test_a_corrupted_file_is_found_when_it_is_read_set_aside_and_made_again(finished: Checkout) -> None:
    before = finished.records()
    (scene,) = [scene for scene, stage in before if stage == "conditioning_view" and "living-room" in scene]
    record = before[scene, "conditioning_view"]
    damaged = Path(finished.store.file_url(record, "scene.npz"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    finished.configure(objects={"minimum_visible_pixels": 20})
    code, said = finished.make()
    assert code == 0, said
    after = finished.require_whole()
    remade = after[scene, "conditioning_view"]
    assert (remade.key, remade.files) == (record.key, record.files), "the same bytes as before the damage"
    assert remade.created_at > record.created_at
    assert list(finished.folder.glob(f"store/tiny/scenes/{scene}/conditioning_view/record.json.corrupt"))
    others = {name: stamp for name, stamp in stamps(before).items() if name[0] != scene and name[1] != "scene_objects"}
    assert others.items() <= stamps(after).items()


def test_a_picture_removed_retires_its_scene_and_an_empty_collection_is_refused(finished: Checkout) -> None:
    before = finished.records()
    (finished.folder / "images" / "street.jpg").unlink()
    code, said = finished.make()
    assert code == 0, said
    catalog = read_catalog(finished.store)
    (retired,) = [entry for entry in catalog.entries.values() if entry.status == "retired"]
    assert retired.image_url is not None
    assert retired.image_url.endswith("street.jpg")
    assert stamps(finished.records()) == stamps(before), "nothing is deleted, nothing made again"
    assert finished.clip_rows() == 2
    tables = {name: finished.store.table_url(name) for name in ("training_index", "scene_catalog")}
    kept = {name: Path(path).read_bytes() for name, path in tables.items()}

    (finished.folder / "prompts.txt").write_text("# nothing here\n")
    shutil.rmtree(finished.folder / "images")
    finished.configure()
    code, said = finished.make()
    assert code == 2, said
    assert "no scene in" in said
    assert "prompts.txt" in said
    assert "Add prompts, pictures or videos" in said
    assert {name: Path(path).read_bytes() for name, path in tables.items()} == kept
    assert read_parquet(finished.store.table_url("scenegen_metadata"), SCENEGEN_METADATA).num_rows > 0


def test_a_full_disk_is_one_clear_message_and_nothing_is_half_published(tmp_path: Path) -> None:
    checkout = new_checkout(tmp_path / "checkout")
    with small_file_system(tmp_path / "disk", "1m") as disk:
        checkout.configure(store={"url": str(disk / "store")})
        code, said = checkout.make()
        assert code not in (0, 1), said
        assert "The batch was stopped (store_full)" in said
        assert f"{disk / 'store'}: No space left on device. Make {disk / 'store'} writable, with space left" in said
        assert "Traceback" not in said
        full = SceneStore(str(disk / "store"), "tiny")
        assert full.scenes(), "it was full only on the way"
        for scene in full.scenes():
            for stage in STAGE_NAMES:
                record = full.record(scene, stage)
                if record is not None:
                    for file in record.files:
                        full.fetch(record, file.path)
        assert not full.leftovers().directories
        assert not list((disk / "store" / ".staging").iterdir())
