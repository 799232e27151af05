"""Which copies of a model a file holds, told from its keys.

Trainers for unsupervised adaptation (DAFormer, HRDA, MIC) keep a student, its teacher (a moving average) and
perhaps the network as it came from ImageNet in one state dict, each under a prefix of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.checkpoints.rawfile import shown
from protos.errors import ModelFileError

PREFIXES = {"student": "model.", "ema": "ema_model.", "imagenet": "imnet_model."}
"""Each copy's prefix."""

SYNONYMS = {"teacher": "ema"}
WRAPPER = "module."
"""What DataParallel puts before every key."""

_RESERVED = "__metadata__"


@dataclass(frozen=True)
class Layout:
    """What was found.

    Attributes:
        copies: The copies that the file holds; none if it holds one model without such a prefix.
        copy: The one that was chosen; None likewise.
        prefix: What stands before each of its keys in the file.
        keys: The key in the file by name, i.e. without the prefix.
        others: Keys that belong to no copy.

    """

    copies: tuple[str, ...]
    copy: str | None
    prefix: str
    keys: Mapping[str, str]
    others: tuple[str, ...]


def choose(keys: Collection[str], copy: str | None, path: Path) -> Layout:
    """Find the copies in a file's keys, and choose one.

    Args:
        keys: All tensors' keys; at least one.
        copy: "student", "ema" (or "teacher") or "imagenet". It has to be given where both a student and a teacher
            are there. Where there is one model without a prefix, there is nothing to choose: it is what it is.
        path: The file, for messages.

    Raises:
        ModelFileError: The choice is missing, or isn't there; or a key is empty or no proper text.

    """
    outer = WRAPPER if all(key.startswith(WRAPPER) for key in keys) else ""
    members = {name: [key for key in keys if key.startswith(outer + prefix)] for name, prefix in PREFIXES.items()}
    copies = tuple(name for name, found in members.items() if found)
    several = bool(members["ema"] or members["imagenet"])
    if not several and len(members["student"]) < len(keys):
        copies = ()
    wanted = None if copy is None else SYNONYMS.get(copy, copy)
    chosen = _chosen(copies, wanted, path)
    others: tuple[str, ...] = ()
    if chosen is None:
        prefix, inside = outer, list(keys)
    else:
        prefix, inside = outer + PREFIXES[chosen], members[chosen]
        of_a_copy = {key for found in members.values() for key in found}
        others = tuple(key for key in keys if key not in of_a_copy)
        if others and "student" not in copies:
            raise ModelFileError(
                f"{path} holds {shown(others[0])} beside {' and '.join(copies)}; whose it is doesn't show",
                "save the weights of one model alone",
            )
        if all(key.startswith(prefix + WRAPPER) for key in inside):
            prefix += WRAPPER
    names = {key[len(prefix) :]: key for key in inside}
    _check(names, path)
    return Layout(copies, chosen, prefix, names, others)


def _chosen(copies: tuple[str, ...], wanted: str | None, path: Path) -> str | None:
    listed = ", ".join(copies)
    if not copies:
        return None
    if wanted is not None:
        if wanted not in copies:
            raise ModelFileError(f"{path} holds no copy {shown(wanted)}", f"it holds: {listed}")
        return wanted
    trained = [copy for copy in copies if copy != "imagenet"]
    if len(trained) != 1:
        raise ModelFileError(
            f"{path} holds several copies of the model: {listed}"
            if trained
            else f"{path} holds only the network as it came from ImageNet",
            "choose one: the student is what was trained, and what the trainers' own tests evaluate; ema is its "
            "teacher, a moving average"
            if trained
            else "choose the copy imagenet if that is what you want",
        )
    return trained[0]


def _check(names: Mapping[str, str], path: Path) -> None:
    for name, key in names.items():
        try:
            name.encode()
        except UnicodeEncodeError:
            name = ""
        if name in ("", _RESERVED):
            raise ModelFileError(f"{path} has a tensor with a key that can't be: {shown(key)}", "rename it")
