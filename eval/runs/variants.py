"""Variants of a run: the same questions with a part removed or changed, compared with `full`.

`eval/ablations.py`, `eval/robustness.py` and `eval/tables.py` play each variant as its own run.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from longvideo_env import EnvConfig
from longvideo_env.datasets.altered import PREFIX
from longvideo_env.errors import SpecError

FULL = "full"


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: Also the name of its folder.
        help: A description of the change.
        changes: Options of the environment that differ from the configured ones.
        of_dataset: Whether it is a variant of the dataset (`longvideo_env.datasets.altered`).
    """

    name: str
    help: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    of_dataset: bool = False

    def config(self, config: EnvConfig) -> EnvConfig:
        """The environment of the variant."""
        dataset = f"{PREFIX}{self.name}@{config.dataset}" if self.of_dataset else config.dataset
        return replace(config, dataset=dataset, **self.changes)


def add_variant_option(parser: ArgumentParser, variants: Sequence[Variant], help: str) -> None:
    """Add `--variant NAME`, with a list of the names."""
    listed = "\n".join(f"{variant.name:<20}{variant.help}" for variant in variants)
    group = parser.add_argument_group("variants", listed)
    group.add_argument(
        "--variant",
        action="append",
        metavar="NAME",
        help=f"{help}. May be repeated. Default: all.",
    )


def choose_variants(
    variants: Sequence[Variant], wanted: str | Sequence[str] | None, always: Collection[str] = ()
) -> list[Variant]:
    """The variants that `--variant` names, in the order of the table.

    Args:
        variants: All variants.
        wanted: The option's value. None means all.
        always: Names of variants that are always included.

    Raises:
        SpecError: No variant has a given name.
    """
    known = [variant.name for variant in variants]
    names = [wanted] if isinstance(wanted, str) else wanted or known
    for name in names:
        if name not in known:
            raise SpecError(f"unknown --variant {name!r}; expected one of: {', '.join(known)}.")
    return [variant for variant in variants if variant.name in {*names, *always}]
