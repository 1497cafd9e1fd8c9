"""What licences permit: whether their material may be used commercially, and what a release made of it owes.

The table holds licences that prompts, pictures, models and code in this field come under, by SPDX identifier or by the
name that model cards use. It says what the licence's text says about commercial use of the material or of a model's
output; it is no legal advice. What the table does not know counts as unknown, never as allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_NAMED_SUBJECTS = 20
"""A reason names so many of the scenes that it holds for, then counts the others."""


class Commercial(StrEnum):
    """Whether commercial use is permitted."""

    ALLOWED = "allowed"
    UNKNOWN = "unknown"
    FORBIDDEN = "forbidden"


_ORDER = (Commercial.ALLOWED, Commercial.UNKNOWN, Commercial.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Licence:
    """What a licence, or an expression of several, permits.

    Attributes:
        name: SPDX identifier, the licence's own name, or the whole expression.
        commercial: whether commercial use is permitted.
        attribution: whether the source must be named.
        share_alike: whether what is made of the material must come under the same licence.
        url: of its text; None where there is no single one.
    """

    name: str
    commercial: Commercial
    attribution: bool = False
    share_alike: bool = False
    url: str | None = None


@dataclass(frozen=True, slots=True)
class LicenceVerdict:
    """What holds for material that comes from several sources.

    Attributes:
        allowed: whether all of it may be used commercially.
        reasons: why not, one line a licence; empty when allowed.
        attribution: subjects that must be named, each with its licence.
        share_alike: licences that pass on to what is made of it.
    """

    allowed: bool
    reasons: tuple[str, ...]
    attribution: tuple[str, ...]
    share_alike: tuple[str, ...]


def read_licence(expression: str | None) -> Licence:
    """What an SPDX expression or a licence's name permits.

    `A AND B` asks for all of both; of `A OR B` the better one is taken; AND binds tighter than OR, brackets tighter
    still; an exception (`WITH`) grants more, so it changes nothing here (SPDX specification 2.3, annex D). Case,
    spaces, underscores and hyphens in names do not matter.

    Args:
        expression: None or empty for a source that states no licence: unknown.
    """
    text = (expression or "").strip()
    known = _TABLE.get(_normal(text))
    if known is not None or not text:
        return known or Licence("no licence stated", Commercial.UNKNOWN)
    unknown = Licence(text, Commercial.UNKNOWN)
    try:
        read = _Expression(text).read()
    except ValueError:
        return unknown
    return Licence(text, read.commercial, read.attribution, read.share_alike, read.url)


def combined(licences: Iterable[tuple[str, str | None]]) -> LicenceVerdict:
    """What holds for material that is under all of these licences at once.

    Args:
        licences: what is under a licence ("scene room-1", "engine flux") with that licence.
    """
    subjects: dict[str, tuple[Licence, list[str]]] = {}
    for subject, expression in licences:
        licence = read_licence(expression)
        named = subjects.setdefault(licence.name, (licence, []))[1]
        if subject not in named:
            named.append(subject)
    ordered = [subjects[name] for name in sorted(subjects)]
    return LicenceVerdict(
        allowed=all(licence.commercial is Commercial.ALLOWED for licence, _ in ordered),
        reasons=tuple(_reason(licence, named) for licence, named in ordered if licence.commercial != "allowed"),
        attribution=tuple(f"{_listed(named)}: {licence.name}" for licence, named in ordered if licence.attribution),
        share_alike=tuple(licence.name for licence, _ in ordered if licence.share_alike),
    )


def _reason(licence: Licence, subjects: list[str]) -> str:
    if licence.commercial is Commercial.FORBIDDEN:
        return f"{_listed(subjects)}: {licence.name} forbids commercial use"
    if licence == read_licence(None):
        return f"{_listed(subjects)}: no licence is stated, so commercial use cannot be taken for allowed"
    return f"{_listed(subjects)}: whether {licence.name} allows commercial use is not known"


def _listed(subjects: list[str]) -> str:
    more = len(subjects) - _NAMED_SUBJECTS
    return ", ".join(subjects[:_NAMED_SUBJECTS]) + (f" and {more} more" if more > 0 else "")


# --- SPDX expressions -----------------------------------------------------------------------------------------------


class _Expression:
    """Reads an SPDX expression by descent: OR of ANDs of names or brackets. Raises ValueError where it is none."""

    def __init__(self, text: str) -> None:
        self._tokens = re.findall(r"[()]|[^\s()]+", text)

    def read(self) -> Licence:
        """The licence of the whole text."""
        licence = self._alternatives()
        if self._tokens:
            raise ValueError(self._tokens[0])
        return licence

    def _alternatives(self) -> Licence:
        # min: of licences equally good for commerce, the one that asks for less.
        choices = [self._conjunction()]
        while self._next_is("OR"):
            choices.append(self._conjunction())
        return min(choices, key=lambda each: (_ORDER.index(each.commercial), each.share_alike, each.attribution))

    def _conjunction(self) -> Licence:
        parts = [self._part()]
        while self._next_is("AND"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def _part(self) -> Licence:
        if self._next_is("("):
            licence = self._alternatives()
            if not self._next_is(")"):
                raise ValueError("unclosed bracket")
            return licence
        licence = self._name()
        if self._next_is("WITH"):
            self._name()
        return licence

    def _name(self) -> Licence:
        if not self._tokens or self._tokens[0].upper() in ("AND", "OR", "WITH", "(", ")"):
            raise ValueError("a name is missing")
        name = self._tokens.pop(0)
        return _TABLE.get(_normal(name)) or Licence(name, Commercial.UNKNOWN)

    def _next_is(self, word: str) -> bool:
        if self._tokens and self._tokens[0].upper() == word:
            self._tokens.pop(0)
            return True
        return False


def _all_of(parts: list[Licence]) -> Licence:
    return Licence(
        " AND ".join(part.name for part in parts),
        max((part.commercial for part in parts), key=_ORDER.index),
        any(part.attribution for part in parts),
        any(part.share_alike for part in parts),
    )


# --- the table ------------------------------------------------------------------------------------------------------


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().casefold()).removesuffix("+")


def _spdx(names: str, commercial: Commercial, *, attribution: bool = True, share_alike: bool = False) -> list[Licence]:
    return [
        Licence(name, commercial, attribution, share_alike, f"https://spdx.org/licenses/{name}.html")
        for name in names.split()
    ]


def _creative_commons() -> list[Licence]:
    licences = []
    for version in ("1.0", "2.0", "2.5", "3.0", "4.0"):
        for terms in ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-NC-ND", "BY-ND"):
            forbidden = "NC" in terms
            # Adaptations of a -ND work may not be passed on at all, and a rendered scene is one.
            commercial = Commercial.FORBIDDEN if forbidden or "ND" in terms else Commercial.ALLOWED
            url = f"https://creativecommons.org/licenses/{terms.lower()}/{version}/"
            licences.append(Licence(f"CC-{terms}-{version}", commercial, True, "SA" in terms, url))
    return licences


_PERMISSIVE = (
    "Apache-2.0 MIT MIT-0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear ISC Zlib BSL-1.0 NCSA AFL-3.0 ODC-By-1.0 "
    "CDLA-Permissive-1.0 CDLA-Permissive-2.0 Python-2.0 PSF-2.0 OFL-1.1"
)
_PUBLIC_DOMAIN = "CC0-1.0 CC-PDDC PDDL-1.0 Unlicense 0BSD"
_COPYLEFT = (
    "GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only "
    "LGPL-3.0-or-later AGPL-3.0-only AGPL-3.0-or-later MPL-2.0 EPL-2.0 ODbL-1.0 CDLA-Sharing-1.0 "
    "GPL-2.0 GPL-3.0 LGPL-2.1 LGPL-3.0 AGPL-3.0"
)

_MODEL_LICENCES = (
    # Commercial use of the models and of what they make is granted.
    Licence(
        "NVIDIA Open Model License",
        Commercial.ALLOWED,
        True,
        url="https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/",
    ),
    Licence("SAM License", Commercial.ALLOWED, True, url="https://github.com/facebookresearch/sam3/blob/main/LICENSE"),
    Licence("CreativeML-OpenRAIL-M", Commercial.ALLOWED),
    Licence("OpenRAIL++", Commercial.ALLOWED),
    Licence(
        "VGGT AUP License",
        Commercial.ALLOWED,
        True,
        url="https://huggingface.co/facebook/VGGT-1B-Commercial/blob/main/LICENSE",
    ),
    # The model may be used for research or other non-commercial ends only.
    Licence(
        "FLUX.1-dev Non-Commercial License",
        Commercial.FORBIDDEN,
        True,
        url="https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    ),
    Licence(
        "FLUX Non-Commercial License",
        Commercial.FORBIDDEN,
        True,
        url="https://github.com/black-forest-labs/flux2/tree/main/model_licenses",
    ),
    Licence("FAIR Noncommercial Research License", Commercial.FORBIDDEN, True),
    Licence(
        "apple-amlr",
        Commercial.FORBIDDEN,
        True,
        url="https://huggingface.co/apple/DepthPro/blob/main/LICENSE",
    ),
    Licence("NVIDIA Source Code License-NC", Commercial.FORBIDDEN, True),
    # Commercial use hangs on revenue, region or an agreement, which cannot be known here.
    Licence(
        "LTX-2 Community License", Commercial.UNKNOWN, url="https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2"
    ),
    Licence("Stability AI Community License", Commercial.UNKNOWN, url="https://stability.ai/license"),
    Licence("Tencent Hunyuan Community License", Commercial.UNKNOWN),
    Licence("VGGT License", Commercial.ALLOWED, True),
    Licence("proprietary", Commercial.UNKNOWN),
)

_ALIASES = {
    "nvidia-open-model-license": "NVIDIA Open Model License",
    "nvidia-open-model-license-agreement": "NVIDIA Open Model License",
    "licenseref-nvidia-open-model-license": "NVIDIA Open Model License",
    "openrail": "CreativeML-OpenRAIL-M",
    "vggt-aup-license": "VGGT AUP License",
    "flux.1-dev": "FLUX.1-dev Non-Commercial License",
    "flux-1-dev-non-commercial-license": "FLUX.1-dev Non-Commercial License",
    "flux.1-dev-non-commercial": "FLUX.1-dev Non-Commercial License",
    "flux.1-[dev]-non-commercial-license": "FLUX.1-dev Non-Commercial License",
    "licenseref-flux.1-dev-non-commercial": "FLUX.1-dev Non-Commercial License",
    "flux-non-commercial-license-v2.1": "FLUX Non-Commercial License",
    "flux-dev-non-commercial-license": "FLUX Non-Commercial License",
    "flux.2-dev-non-commercial-license": "FLUX Non-Commercial License",
    "ltx-2-community-license-agreement": "LTX-2 Community License",
    "ltx-2.x-community-license-agreement": "LTX-2 Community License",
    "stabilityai-ai-community": "Stability AI Community License",
    "apple-machine-learning-research-model-license": "apple-amlr",
    "nvidia-source-code-license": "NVIDIA Source Code License-NC",
    "nsclv1": "NVIDIA Source Code License-NC",
    "licenseref-proprietary": "proprietary",
    "all-rights-reserved": "proprietary",
    "apache-license-2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "cc0": "CC0-1.0",
    "public-domain": "CC-PDDC",
    "bsd": "BSD-3-Clause",
    "odbl": "ODbL-1.0",
    "pddl": "PDDL-1.0",
}


def _table() -> dict[str, Licence]:
    licences = [
        *_spdx(_PERMISSIVE, Commercial.ALLOWED),
        *_spdx(_PUBLIC_DOMAIN, Commercial.ALLOWED, attribution=False),
        *_spdx(_COPYLEFT, Commercial.ALLOWED, share_alike=True),
        *_creative_commons(),
        *_MODEL_LICENCES,
    ]
    table = {_normal(licence.name): licence for licence in licences}
    return table | {alias: table[_normal(name)] for alias, name in _ALIASES.items()}


_TABLE = _table()
