"""The state that a command's nets are built in: what --phase, --level and --stage ask for."""

from dataclasses import dataclass


@dataclass
class Asked:
    """phase: 0 TRAIN, 1 TEST, None: the command's. level: None: the net's. stages: beside the net's."""

    phase: int | None = None
    level: int | None = None
    stages: tuple[str, ...] = ()


asked = Asked()
