"""The one error tree: what happened, where, and what to do next.

The command line prints an error's text without a traceback and exits with its code. The codes are a
contract with scripts; ``docs/exit-codes.md`` lists them and a test keeps that list true.
"""

from __future__ import annotations


class OnebasinError(Exception):
    """Root of everything that onebasin raises on purpose.

    Args:
        what: What happened, naming the site, file or tensor.
        fix: What the reader can do about it. It is printed on a line of its own.

    """

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.fix}" if self.fix else self.what


class ConfigurationError(OnebasinError):
    """A setting, a folder or a command's argument is wrong."""

    exit_code = 3


class BaseMismatchError(OnebasinError):
    """The base is missing, damaged, or not the one that the campaign names."""

    exit_code = 4


class ModelFileError(OnebasinError):
    """A model file can't be read, or doesn't hold what it should."""

    exit_code = 5


class UpdateRefusedError(OnebasinError):
    """An update broke a rule, so it was not merged.

    Args:
        what: What is wrong with the update.
        fix: What to do next.
        site: The site that sent it.
        tensor: The tensor at fault, if one is.

    """

    exit_code = 6

    def __init__(self, what: str, fix: str = "", *, site: str = "", tensor: str = "") -> None:
        super().__init__(what, fix)
        self.site = site
        self.tensor = tensor


class SignatureError(UpdateRefusedError):
    """A signature or a seal is missing or wrong, or was made with another key or for another purpose."""

    exit_code = 7


class MergeRangeError(UpdateRefusedError):
    """A value is too large for the fixed-point sums of the merge state."""

    exit_code = 8


class QuorumError(OnebasinError):
    """Too few sites delivered an update, so nothing was merged."""

    exit_code = 9


class FederationError(OnebasinError):
    """Flower's SuperLink or a SuperNode can't be started or reached, or ended with an error."""

    exit_code = 10


class AdaptationError(OnebasinError):
    """A site's adaptation could not start, or failed."""

    exit_code = 11


class DataError(OnebasinError):
    """Images or labels are missing, unreadable, or not what they should be."""

    exit_code = 12


class StorageError(OnebasinError):
    """A file can't be written: no space, no permission, or it is there already."""

    exit_code = 13


class PolicyError(OnebasinError):
    """A site's operator has not accepted a campaign, or the site's policy forbids it."""

    exit_code = 14


class PreflightError(OnebasinError):
    """Something that a campaign needs is missing or wrong on this machine."""

    exit_code = 15


class VerificationError(OnebasinError):
    """What a receipt, a proof or an audit log says is not so, or it is damaged."""

    exit_code = 16


class CancelledError(OnebasinError):
    """A campaign was cancelled."""

    exit_code = 18


class JournalError(OnebasinError):
    """The coordinator's journal is damaged, of a newer onebasin, or was in use for too long."""

    exit_code = 19


class SecureSumError(OnebasinError):
    """A secure sum was given up, or asked for what it must not do; nothing of a single site was revealed.

    Args:
        what: What is wrong.
        fix: What to do next.
        site: The site at fault, if one is.

    """

    exit_code = 17

    def __init__(self, what: str, fix: str = "", *, site: str = "") -> None:
        super().__init__(what, fix)
        self.site = site
