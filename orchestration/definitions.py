"""The module that Dagster loads: the code location of the profile that SCENELOOM_CONFIG picks."""

from ..assets.scene_runtime import SceneRuntime
from ..resources.profiles import load_profile
from .code_location import build_definitions

defs = build_definitions(SceneRuntime(load_profile()))
