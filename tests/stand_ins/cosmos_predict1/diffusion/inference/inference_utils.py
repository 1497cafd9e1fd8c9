"""The arguments of Lyra's scripts; of their defaults only the negative prompt is read."""

from __future__ import annotations

import argparse


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--negative_prompt", type=str, default="The video is of poor quality.")
