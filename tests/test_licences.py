from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneloom.datasets.licences import Commercial, combined, read_licence
from sceneloom.resources.moge import MogeScaffold
from sceneloom.resources.sana_wm_video import SanaWMVideo
from sceneloom.resources.trellis_latents import TrellisLatents
from sceneloom.resources.vggt import VggtFeatures

ALLOWED, FORBIDDEN, UNKNOWN = Commercial.ALLOWED, Commercial.FORBIDDEN, Commercial.UNKNOWN


@pytest.mark.parametrize(
    ("name", "commercial", "attribution", "share_alike"),
    [
        ("Apache-2.0", ALLOWED, True, False),
        ("mit", ALLOWED, True, False),
        ("BSD-3-Clause", ALLOWED, True, False),
        ("CC0-1.0", ALLOWED, False, False),
        ("CC-BY-4.0", ALLOWED, True, False),
        ("cc by sa 4.0", ALLOWED, True, True),
        ("CC_BY_NC_4.0", FORBIDDEN, True, False),
        ("CC-BY-NC-SA-4.0", FORBIDDEN, True, True),
        ("CC-BY-ND-4.0", FORBIDDEN, True, False),
        ("AGPL-3.0", ALLOWED, True, True),
        ("GPL-3.0+", ALLOWED, True, True),
        ("FLUX.1-dev", FORBIDDEN, True, False),
        ("FLUX.1 [dev] Non-Commercial License", FORBIDDEN, True, False),
        ("flux-1-dev-non-commercial-license", FORBIDDEN, True, False),
        ("nvidia-open-model-license", ALLOWED, True, False),
        ("apple-amlr", FORBIDDEN, True, False),
        ("vggt-aup-license", ALLOWED, True, False),
        ("proprietary", UNKNOWN, False, False),
        ("my own licence", UNKNOWN, False, False),
        ("", UNKNOWN, False, False),
        (None, UNKNOWN, False, False),
    ],
)
def test_single_licences(name: str | None, commercial: Commercial, attribution: bool, share_alike: bool) -> None:
    licence = read_licence(name)
    assert (licence.commercial, licence.attribution, licence.share_alike) == (commercial, attribution, share_alike)


@pytest.mark.parametrize(
    ("expression", "commercial", "share_alike"),
    [
        ("MIT AND CC-BY-NC-4.0", FORBIDDEN, False),
        ("MIT OR CC-BY-NC-4.0", ALLOWED, False),
        ("MIT AND Unheard-1.0", UNKNOWN, False),
        ("Unheard-1.0 OR CC-BY-NC-4.0", UNKNOWN, False),
        ("MIT OR MIT AND CC-BY-NC-4.0", ALLOWED, False),
        ("(MIT OR MIT) AND CC-BY-NC-4.0", FORBIDDEN, False),
        ("(CC-BY-SA-4.0 OR MIT) AND Apache-2.0", ALLOWED, False),
        ("CC-BY-SA-4.0 AND Apache-2.0", ALLOWED, True),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", ALLOWED, True),
        ("mit and apache-2.0", ALLOWED, False),
        ("MIT AND", UNKNOWN, False),
        ("(MIT", UNKNOWN, False),
        ("MIT MIT", UNKNOWN, False),
        (")", UNKNOWN, False),
    ],
)
def test_expressions(expression: str, commercial: Commercial, share_alike: bool) -> None:
    licence = read_licence(expression)
    assert (licence.commercial, licence.share_alike) == (commercial, share_alike)
    assert licence.name == expression


_NAMES = {"MIT": 0, "CC-BY-4.0": 0, "Unheard-1.0": 1, "CC-BY-NC-4.0": 2}
_TREES = st.recursive(
    st.sampled_from(sorted(_NAMES)),
    lambda parts: st.tuples(st.sampled_from(["AND", "OR"]), parts, parts),
    max_leaves=8,
)


def _text(tree: object) -> str:
    return tree if isinstance(tree, str) else f"({_text(tree[1])} {tree[0]} {_text(tree[2])})"  # type: ignore[index]


def _worst(tree: object) -> int:
    if isinstance(tree, str):
        return _NAMES[tree]
    word, left, right = tree  # type: ignore[misc]
    return (max if word == "AND" else min)(_worst(left), _worst(right))


@given(_TREES)
def test_and_takes_the_worst_or_the_best(tree: object) -> None:
    assert read_licence(_text(tree)).commercial is (ALLOWED, UNKNOWN, FORBIDDEN)[_worst(tree)]


@given(st.text(max_size=30))
def test_no_text_is_allowed_by_accident_or_breaks_the_reader(text: str) -> None:
    assert read_licence(f"zz{text}").commercial in (UNKNOWN, FORBIDDEN, ALLOWED)
    assert read_licence(f"unheard-of-{len(text)}").commercial is UNKNOWN


def test_combined_names_each_subject_and_tells_forbidden_from_unknown() -> None:
    verdict = combined(
        [
            ("scene a", "CC-BY-NC-4.0"),
            ("scene b", "cc-by-nc-4.0"),
            ("scene c", None),
            ("engine x", "strange"),
            ("engine y", "AGPL-3.0"),
        ]
    )
    assert not verdict.allowed
    assert verdict.reasons == (
        "scene a, scene b: CC-BY-NC-4.0 forbids commercial use",
        "scene c: no licence is stated, so commercial use cannot be taken for allowed",
        "engine x: whether strange allows commercial use is not known",
    )
    assert verdict.share_alike == ("AGPL-3.0",)
    assert verdict.attribution == ("engine y: AGPL-3.0", "scene a, scene b: CC-BY-NC-4.0")


def test_combined_of_free_licences_is_allowed() -> None:
    verdict = combined([("scene a", "CC0-1.0"), ("engine x", "MIT OR GPL-3.0-only")])
    assert verdict.allowed
    assert verdict.reasons == ()
    assert verdict.share_alike == ()


def test_many_subjects_are_counted_not_listed() -> None:
    (reason,) = combined([(f"scene {number}", None) for number in range(1000)]).reasons
    assert "and 980 more" in reason
    assert len(reason) < 500


def _table_of_models() -> list[tuple[str, str, str]]:
    text = (Path(__file__).parents[1] / "docs/licences.md").read_text()
    rows = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [(model, licence, verdict) for model, licence, verdict, _ in rows[1:]]


@pytest.mark.parametrize(("model", "licence", "verdict"), _table_of_models())
def test_the_table_of_models_says_what_is_read(model: str, licence: str, verdict: str) -> None:
    assert read_licence(licence).commercial == verdict


def test_what_the_engines_know_of_weights_is_in_the_table_of_models() -> None:
    table = {model: licence for model, licence, _ in _table_of_models()}
    engines = (MogeScaffold, VggtFeatures, TrellisLatents)
    known = {hub_id: licence for engine in engines for hub_id, licence in engine.licences.items()}
    assert len(known) >= 4
    for hub_id, licence in known.items():
        assert table[hub_id.split("/")[1]] == licence
    parts = SanaWMVideo.part_licences
    assert table["SANA-WM_bidirectional"] == " AND ".join(("Apache-2.0", *parts))


@pytest.mark.parametrize(
    ("card", "commercial"),
    [
        ("flux-non-commercial-license", FORBIDDEN),
        ("flux-dev-non-commercial-license", FORBIDDEN),
        ("FLUX.2-dev Non-Commercial License", FORBIDDEN),
        ("fair-noncommercial-research-license", FORBIDDEN),
        ("sam-license", ALLOWED),
        ("ltx-2-community-license-agreement", UNKNOWN),
        ("apache-2.0 AND ltx-2-community-license-agreement", UNKNOWN),
        ("dinov3-license", UNKNOWN),
        ("gemma", UNKNOWN),
    ],
)
def test_names_that_cards_give_licences(card: str, commercial: Commercial) -> None:
    assert read_licence(card).commercial is commercial


def test_a_model_comes_under_the_licences_of_its_parts_unless_the_profile_says_otherwise() -> None:
    engine = object.__new__(SanaWMVideo)
    vars(engine).update(source=SimpleNamespace(licence="apache-2.0"), _model_settings=SimpleNamespace(licence=None))
    assert engine.licence == "apache-2.0 AND LTX-2 Community License"
    assert read_licence(engine.licence).commercial is UNKNOWN
    vars(engine).update(source=SimpleNamespace(licence="MIT"), _model_settings=SimpleNamespace(licence="MIT"))
    assert engine.licence == "MIT"
