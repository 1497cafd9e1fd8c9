"""Models of diffusers and transformers, loaded from this machine the way a profile's model settings say.

What cannot work (files that are not here, a missing library, a device that is not there, another model class) is
refused by name before any weights are read.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Container, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ..datasets.errors import EngineError
from .loading_lock import LOADING
from .model_files import (
    DENOISERS,
    MODEL_CONFIG,
    PIPELINE_INDEX,
    ModelSource,
    device_memory_bytes,
    is_quantised_part,
    model_folder,
    model_source,
    pipeline_parts,
    read_json,
)
from .model_settings import ModelSettings

__all__ = [
    "ModelSource",
    "device_memory_bytes",
    "load_model",
    "load_pipeline",
    "model_facts",
    "model_source",
    "require_device",
    "require_loadable",
    "require_readable",
]

Library = Literal["diffusers", "transformers"]

_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "bitsandbytes", "torchao")
_QUANTISED_BY = {
    "bitsandbytes_8bit": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "torchao_int8": "torchao",
    "torchao_float8": "torchao",
}


def load_pipeline(class_name: str, settings: ModelSettings, **parts: Any) -> Any:
    """A diffusers pipeline, on its device and ready to be called; its progress bar is off.

    Args:
        class_name: such as "FluxPipeline"; the folder's model_index.json must name the same.
        parts: parts to use in place of those in the folder, by name; None leaves a part out.

    Raises:
        EngineError: files, libraries or the device are missing, the class is another, or the settings ask for what the
            pipeline does not have.
    """
    folder = model_folder(settings).path
    pipeline_class = _library_class("diffusers", class_name, folder)
    _require_class(folder / PIPELINE_INDEX, class_name)
    require_loadable(settings)
    require_readable(folder, given=parts)
    quantised = [name for name in pipeline_parts(folder) if is_quantised_part(name) and (name not in parts)]
    pipeline = _from_pretrained(
        pipeline_class,
        folder,
        dtype=_dtype(settings),
        low_cpu_mem_usage=_is_installed("accelerate"),
        **(
            {"quantization_config": _pipeline_quantisation(settings, folder, quantised)} if _quantises(settings) else {}
        ),
        **parts,
    )
    pipeline.set_progress_bar_config(disable=True)
    _configure_autoencoder(getattr(pipeline, "vae", None), settings, folder)
    denoisers = [part for name in DENOISERS if (part := getattr(pipeline, name, None)) is not None]
    if settings.attention is not None or settings.compile:
        _require_denoisers(denoisers, class_name, folder)
    if settings.attention is not None:
        for denoiser in denoisers:
            _set_attention(denoiser, settings.attention, folder)
    _place_pipeline(pipeline, settings, folder)
    if settings.compile:
        for denoiser in denoisers:
            _compile(denoiser)
    return pipeline


def load_model(
    class_name: str, settings: ModelSettings, *, library: Library = "transformers", subfolder: str | None = None
) -> Any:
    """A single model in evaluation mode, on its device, without gradients.

    Args:
        class_name: such as "DepthProForDepthEstimation" or "AutoencoderKLWan".
        library: that has the class.
        subfolder: part of a pipeline's folder, such as "vae".

    Raises:
        EngineError: as `load_pipeline`, or the files do not hold all of the class's weights.
    """
    folder = model_folder(settings, subfolder=subfolder).path
    model_class = _library_class(library, class_name, folder)
    place = folder / subfolder if subfolder else folder
    if library == "diffusers":
        _require_class(place / MODEL_CONFIG, class_name)
        _require_what_the_class_needs(model_class, place)
    require_loadable(settings)
    options: dict[str, Any] = {"dtype": _dtype(settings)}
    if library == "diffusers":
        options = {"torch_dtype": _dtype(settings), "low_cpu_mem_usage": _is_installed("accelerate")}
    elif settings.attention is not None:
        options["attn_implementation"] = settings.attention
    if _quantises(settings):
        options["quantization_config"] = _quantisation(settings, library)
        if settings.quantisation.startswith("bitsandbytes"):
            options["device_map"] = {"": settings.device}
    model, loading = _from_pretrained(model_class, place, output_loading_info=True, **options)
    _require_all_weights(loading, class_name, place)
    if settings.vae_tiling or settings.vae_slicing:
        _configure_autoencoder(model, settings, place)
    if library == "diffusers" and settings.attention is not None:
        _set_attention(model, settings.attention, place)
    model = model.eval().requires_grad_(False)
    _place_model(model, settings, place)
    if settings.compile:
        _compile(model)
    return model


def model_facts(settings: ModelSettings, source: ModelSource) -> dict[str, Any]:
    """What a record says of a model, as JSON: whose files, and how they were run."""
    return {
        "id": source.id,
        "revision": source.revision,
        "commit": source.commit,
        "files": dict(sorted(source.files_digest.items())),
        "licence": source.licence,
        **settings.model_dump(
            mode="json",
            include={
                "device",
                "precision",
                "attention",
                "offload",
                "vae_tiling",
                "vae_slicing",
                "compile",
                "quantisation",
            },
        ),
        "versions": library_versions(_LIBRARIES),
    }


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those libraries that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# ---------------------------------------------------------------- what must be there


def require_loadable(settings: ModelSettings) -> None:
    """Refuse settings that this machine cannot serve: a device that is not there, or a library that is missing.

    Raises:
        EngineError: naming what is missing and the remedy.
    """
    where = settings.weights
    require_device(settings.device, where)
    if settings.offload != "none":
        if settings.device == "cpu":
            raise EngineError(
                f"offload {settings.offload!r} with the device cpu",
                where=where,
                remedy="Offload moves weights between host and a CUDA device: set offload to none, or device to cuda.",
            )
        _require_library("accelerate", f"offload {settings.offload!r}", where)
    if _quantises(settings):
        library = _QUANTISED_BY[settings.quantisation]
        for needed in (library, "accelerate"):
            _require_library(needed, f"quantisation {settings.quantisation!r}", where)
        if library == "bitsandbytes" and settings.device == "cpu":
            raise EngineError(
                f"quantisation {settings.quantisation!r} with the device cpu",
                where=where,
                remedy="bitsandbytes needs a CUDA device: set device to cuda, or quantisation to torchao_int8.",
            )
    attention = settings.attention or ""
    if attention.endswith("_hub") or "/" in attention:
        raise EngineError(
            f"the attention {attention!r} is fetched from the hub when it is first used",
            where=where,
            remedy="Nothing is fetched in a run: install the library and name its backend (flash, sage), or native.",
        )


def require_device(device: str, where: str) -> None:
    """Refuse a CUDA device that this machine does not have. Raises EngineError."""
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise EngineError(
            f"the device {device} is not there: torch {torch.__version__} sees {count} CUDA devices",
            where=where,
            remedy="Choose a device that is there; `sceneloom doctor` lists them.",
        )


def _require_library(name: str, what_for: str, where: str) -> None:
    if not _is_installed(name):
        raise EngineError(
            f"{what_for} needs the library {name}, which is not installed",
            where=where,
            remedy=f"Install it (pip install {name}), or change the setting.",
        )


def require_readable(folder: Path, given: Container[str] = ()) -> None:
    """Refuse a pipeline with parts that this machine's libraries cannot read.

    Args:
        folder: the pipeline's; a single model's has no parts.
        given: parts that are not read from the folder.

    Raises:
        EngineError: naming the library or the version that is missing.
    """
    for name, (library, part_class) in pipeline_parts(folder).items():
        if library == "diffusers" and name not in given:
            _require_what_the_class_needs(_library_class("diffusers", part_class, folder), folder)


def _require_what_the_class_needs(diffusers_class: Any, where: Path) -> None:
    """diffusers reads a model that keeps some layers in float32 only through accelerate."""
    if getattr(diffusers_class, "_keep_in_fp32_modules", None):
        _require_library("accelerate", f"loading {diffusers_class.__name__}", str(where))


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _library_class(library: Library, class_name: str, folder: Path) -> Any:
    module = importlib.import_module(library)
    found = getattr(module, class_name, None)
    if found is None:
        raise EngineError(
            f"{library} {version(library)} has no class {class_name}",
            where=str(folder),
            remedy=f"Install a version of {library} that has it.",
        )
    return found


def _require_class(index: Path, class_name: str) -> None:
    if not index.exists():
        raise EngineError(
            f"{index.name} is missing, so this is no {class_name}",
            where=str(index.parent),
            remedy=f"Give a folder that {class_name}.save_pretrained wrote.",
        )
    found = read_json(index).get("_class_name")
    if found != class_name:
        raise EngineError(
            f"the files are of the class {found}, the engine asks for {class_name}",
            where=str(index),
            remedy=f"Give the weights of a {class_name}, or choose the engine for {found}.",
        )


def _require_denoisers(denoisers: list[Any], class_name: str, folder: Path) -> None:
    if not denoisers:
        raise EngineError(
            f"{class_name} has no denoiser ({', '.join(DENOISERS)}) to set attention or compile for",
            where=str(folder),
            remedy="Remove attention and compile from the model's settings.",
        )


def _require_all_weights(loading: dict[str, Any], class_name: str, place: Path) -> None:
    absent = sorted(str(key) for key in loading.get("missing_keys", ()))
    absent += [str(key) for key in loading.get("mismatched_keys", ())]
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise EngineError(
            f"the files lack weights of {class_name}: {shown}",
            where=str(place),
            remedy="Give the weights of this class; random numbers would have stood in for those that are missing.",
        )


# ---------------------------------------------------------------- loading


def _from_pretrained(loaded_class: Any, place: Path, **options: Any) -> Any:
    import torch

    _hide_progress()
    try:
        with LOADING:
            return loaded_class.from_pretrained(str(place), local_files_only=True, **options)
    except torch.OutOfMemoryError:
        raise  # its own type tells the memory ladder what to do
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EngineError(
            f"{loaded_class.__name__} cannot be loaded: {_message(error)}",
            where=str(place),
            remedy="Download or write the model again, and check the settings of its section.",
        ) from error


def _hide_progress() -> None:
    """Bars of files read belong to an interactive session, not to a run's log."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _message(error: Exception) -> str:
    return str(error).strip().rstrip(".")


def _dtype(settings: ModelSettings) -> Any:
    import torch

    return getattr(torch, settings.precision)


def _quantises(settings: ModelSettings) -> bool:
    return settings.quantisation != "none"


def _quantisation(settings: ModelSettings, library: str) -> Any:
    """The library's own quantisation config."""
    module = importlib.import_module(library)
    if settings.quantisation == "bitsandbytes_8bit":
        return module.BitsAndBytesConfig(load_in_8bit=True)
    if settings.quantisation == "bitsandbytes_4bit":
        return module.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=_dtype(settings)
        )
    torchao = importlib.import_module("torchao.quantization")
    kind = "Int8WeightOnlyConfig" if settings.quantisation == "torchao_int8" else "Float8WeightOnlyConfig"
    return module.TorchAoConfig(getattr(torchao, kind)())


def _pipeline_quantisation(settings: ModelSettings, folder: Path, names: list[str]) -> Any:
    from diffusers.quantizers.pipe_quant_config import PipelineQuantizationConfig

    libraries = {name: library for name, (library, _) in pipeline_parts(folder).items()}
    if not names:
        raise EngineError(
            "the pipeline has no denoiser or text encoder to quantise",
            where=str(folder),
            remedy="Set quantisation to none.",
        )
    return PipelineQuantizationConfig(quant_mapping={name: _quantisation(settings, libraries[name]) for name in names})


def _configure_autoencoder(autoencoder: Any, settings: ModelSettings, where: Path) -> None:
    for wanted, method in ((settings.vae_tiling, "enable_tiling"), (settings.vae_slicing, "enable_slicing")):
        if not wanted:
            continue
        if not hasattr(autoencoder, method):
            found = "no autoencoder" if autoencoder is None else f"{type(autoencoder).__name__}, which cannot do that"
            raise EngineError(
                f"vae_{method.removeprefix('enable_')} is asked for, and the model has {found}",
                where=str(where),
                remedy="Set it to false.",
            )
        getattr(autoencoder, method)()


def _set_attention(model: Any, name: str, where: Path) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend

    known = sorted(backend.value for backend in AttentionBackendName)
    if name not in known:
        raise EngineError(
            f"diffusers has no attention backend {name!r}", where=str(where), remedy=f"Name one of: {', '.join(known)}."
        )
    try:
        # The backend is set for the whole process too: the context gives that back, so that other models keep theirs.
        with attention_backend(name):
            model.set_attention_backend(name)
    except (RuntimeError, ValueError, ImportError) as error:
        raise EngineError(
            f"the attention backend {name!r} cannot be used: {_message(error)}",
            where=str(where),
            remedy="Name another, or null.",
        ) from error


def _compile(model: Any) -> None:
    """Compile at the first call: the repeated blocks where the class names them, which compiles far quicker."""
    if getattr(model, "_repeated_blocks", None):
        model.compile_repeated_blocks()
    else:
        model.compile()


def _place_pipeline(pipeline: Any, settings: ModelSettings, folder: Path) -> None:
    try:
        if settings.offload == "model":
            pipeline.enable_model_cpu_offload(device=settings.device)
        elif settings.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=settings.device)
        else:
            pipeline.to(settings.device)
    except (ValueError, ImportError) as error:
        raise EngineError(
            f"the pipeline cannot be placed with offload {settings.offload!r}: {_message(error)}",
            where=str(folder),
            remedy="Choose another offload.",
        ) from error


def _place_model(model: Any, settings: ModelSettings, place: Path) -> None:
    if settings.offload == "none":
        if settings.quantisation.startswith("bitsandbytes"):
            return  # it was put on the device as it was read
        model.to(settings.device)
        return
    accelerate = importlib.import_module("accelerate")
    if settings.offload == "sequential":
        accelerate.cpu_offload(model, settings.device, offload_buffers=len(model._parameters) > 0)
    else:
        accelerate.cpu_offload_with_hook(model, settings.device)
