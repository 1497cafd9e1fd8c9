"""What is done when memory runs out: which errors say so, which steps are taken, and what is freed in between."""

from __future__ import annotations

import gc
import importlib.util
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from sceneloom.datasets.errors import EngineError
from sceneloom.resources.failures import Reason, StageFailed, classify
from sceneloom.resources.memory_ladder import (
    LadderOutcome,
    MemoryLadder,
    Step,
    is_out_of_memory,
    out_of_memory_told,
    pipeline_steps,
    steps_to,
)
from sceneloom.resources.model_settings import ModelSettings


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """Each try collects garbage; what was there before the test need not be walked every time."""
    gc.freeze()
    yield
    gc.unfreeze()


class Engine:
    """Needs less memory with each of its steps, and fails as torch does where it needs more than there is."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.tiling = False
        self.chunk = 121
        self.tries: list[tuple[bool, int]] = []

    def work(self) -> str:
        self.tries.append((self.tiling, self.chunk))
        if self.chunk + (0 if self.tiling else 100) > self.available:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nGPU 0 has a total of …")
        return f"made with chunk {self.chunk}"

    def ladder(self) -> MemoryLadder:
        def tile() -> None:
            self.tiling = True

        def cut(frames: int) -> None:
            self.chunk = frames

        return MemoryLadder(
            (Step("vae_tiling", tile), *steps_to("chunk", (61, 31), cut)), device="cpu", where="wan_vace"
        )


def test_work_that_fits_takes_no_step() -> None:
    outcome = Engine(300).ladder().run(lambda: "made")
    assert outcome == LadderOutcome("made", (), 1)
    assert outcome.for_record() == {"steps": [], "attempts": 1}


def test_steps_are_taken_in_order_until_it_fits_and_stay_in_force() -> None:
    engine = Engine(100)
    ladder = engine.ladder()
    outcome = ladder.run(engine.work)
    assert engine.tries == [(False, 121), (True, 121), (True, 61)]
    assert outcome.output == "made with chunk 61"
    assert outcome.for_record() == {"steps": ["vae_tiling", "chunk 61"], "attempts": 3}
    assert ladder.taken == ("vae_tiling", "chunk 61")
    again = ladder.run(engine.work)
    assert engine.tries[3:] == [(True, 61)]
    assert again.for_record() == {"steps": ["vae_tiling", "chunk 61"], "attempts": 1}


def test_at_the_end_of_the_ladder_the_work_is_refused_as_out_of_memory() -> None:
    engine = Engine(10)
    with pytest.raises(
        StageFailed, match=r"wan_vace: .*with vae_tiling, chunk 61, chunk 31 \(CUDA out.*3 GiB\.\)"
    ) as e:
        engine.ladder().run(engine.work)
    assert classify(e.value) is Reason.OUT_OF_MEMORY
    assert len(engine.tries) == 4
    assert "total" not in str(e.value)


def test_without_steps_the_first_failure_is_the_last() -> None:
    engine = Engine(10)
    with pytest.raises(StageFailed, match="nothing is declared"):
        MemoryLadder((), device="cpu", where="flux").run(engine.work)
    assert len(engine.tries) == 1


def test_other_errors_pass_and_take_no_step() -> None:
    ladder = Engine(10).ladder()

    def fail() -> None:
        raise ValueError("a shape")

    with pytest.raises(ValueError, match="a shape"):
        ladder.run(fail)
    assert ladder.taken == ()


def wrapped(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise EngineError("the pipeline failed", where="flux", remedy="none") from error
    except EngineError as error:
        return error


def in_passing(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except type(cause):
            raise KeyError("cache")  # noqa: B904
    except KeyError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (wrapped(torch.OutOfMemoryError("CUDA out of memory.")), True),
        (in_passing(MemoryError()), True),
        (OSError(12, "Cannot allocate memory"), True),
        (StageFailed(Reason.OUT_OF_MEMORY, "another ladder ended"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (wrapped(ValueError("no")), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_say_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_torch_refuses_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_what_the_failed_try_held_is_freed_before_the_next_begins() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive_at_retry: list[bool] = []

    def work() -> str:
        if held:
            alive_at_retry.append(held[0]() is not None)
            return "made"
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        cycle = [tensor]
        cycle.append(cycle)  # type: ignore[arg-type]
        raise torch.OutOfMemoryError("CUDA out of memory.")

    gc.disable()
    try:
        MemoryLadder((Step("less", lambda: None),), device="cpu", where="x").run(work)
    finally:
        gc.enable()
    assert alive_at_retry == [False]


def test_two_threads_that_fail_on_one_rung_take_one_step() -> None:
    applied: list[str] = []
    both = threading.Barrier(2)
    ladder = MemoryLadder(
        (Step("first", lambda: applied.append("first")), Step("second", lambda: applied.append("second"))),
        device="cpu",
        where="x",
    )

    def run(_: int) -> LadderOutcome[str]:
        tries = 0

        def work() -> str:
            nonlocal tries
            tries += 1
            if tries == 1:
                both.wait(10)
                raise MemoryError
            return "made"

        return ladder.run(work)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(run, range(2)))
    assert applied == ["first"]
    assert [outcome.steps for outcome in outcomes] == [("first",), ("first",)]


def test_a_step_that_fails_is_not_counted_as_taken() -> None:
    def fail() -> None:
        raise EngineError("accelerate is broken", where="x", remedy="none")

    ladder = MemoryLadder((Step("offload", fail),), device="cpu", where="x")
    with pytest.raises(EngineError, match="accelerate is broken"):
        ladder.run(Engine(10).work)
    assert ladder.taken == ()


def test_values_of_steps_must_fall() -> None:
    with pytest.raises(ValueError, match="batch must fall"):
        steps_to("batch", (4, 4), lambda _: None)


# ---------------------------------------------------------------- a real pipeline's steps


class Pipeline:
    """What the steps touch of a pipeline, with a real autoencoder."""

    def __init__(self) -> None:
        self.vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=1, latent_channels=1)
        self.offload: list[tuple[str, str]] = []

    def enable_model_cpu_offload(self, device: str) -> None:
        self.offload.append(("model", device))

    def enable_sequential_cpu_offload(self, device: str) -> None:
        self.offload.append(("sequential", device))


def test_the_steps_of_a_pipeline_switch_tiles_and_slices_on() -> None:
    pipeline = Pipeline()
    steps = pipeline_steps(pipeline, ModelSettings(path="/weights"))
    assert [step.name for step in steps] == ["vae_tiling", "vae_slicing"]
    assert not pipeline.vae.use_tiling
    steps[0].apply()
    assert pipeline.vae.use_tiling
    assert not pipeline.vae.use_slicing
    steps[1].apply()
    assert pipeline.vae.use_slicing


def test_what_the_settings_already_ask_for_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: ModuleSpec(name, None) if name == "accelerate" else find_spec(name, *rest),
    )
    pipeline = Pipeline()
    on_card = pipeline_steps(pipeline, ModelSettings(path="/weights", device="cuda:1", vae_tiling=True))
    assert [step.name for step in on_card] == ["vae_slicing", "offload_model", "offload_sequential"]
    for step in on_card:
        step.apply()
    assert pipeline.offload == [("model", "cuda:1"), ("sequential", "cuda:1")]
    settings = ModelSettings(path="/weights", device="cuda", offload="model", vae_tiling=True, vae_slicing=True)
    assert [step.name for step in pipeline_steps(pipeline, settings)] == ["offload_sequential"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert pipeline_steps(pipeline, settings) == ()


def test_a_pipeline_without_an_autoencoder_has_no_such_steps() -> None:
    assert pipeline_steps(object(), ModelSettings(path="/weights")) == ()


@pytest.mark.parametrize(("released", "tries", "steps"), [(["other"], 2, ()), ([], 2, ("half",))])
def test_idle_models_go_before_a_step_is_taken(released: list[str], tries: int, steps: tuple[str, ...]) -> None:
    asked: list[int] = []
    state = {"fits": False}

    def make_room() -> list[str]:
        asked.append(1)
        state["fits"] = bool(released)
        return released

    def work() -> str:
        if not state["fits"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "made"

    half = Step("half", lambda: state.update(fits=True))
    ladder = MemoryLadder([half], device="cpu", where="model", make_room=make_room)
    outcome = ladder.run(work)
    assert (outcome.attempts, outcome.steps, len(asked)) == (tries, steps, 1)


def test_room_is_made_once_even_where_there_is_no_step() -> None:
    asked: list[int] = []

    def make_room() -> list[str]:
        asked.append(1)
        return ["other"]

    def work() -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(StageFailed, match="nothing is declared"):
        MemoryLadder([], device="cpu", where="model", make_room=make_room).run(work)
    assert asked == [1]


def test_work_that_cannot_be_made_smaller_says_what_can_be_done() -> None:
    with (
        pytest.raises(StageFailed, match=r"depth: memory of cuda:0 ran out \(CUDA out of memory\)") as caught,
        out_of_memory_told("cuda:0", "depth"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    for other in (ValueError("bad"), StageFailed(Reason.OUT_OF_MEMORY, "told already")):
        with pytest.raises(type(other), match=str(other)), out_of_memory_told("cpu", "depth"):
            raise other
