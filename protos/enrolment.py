"""A site's request to take part: its name and its three public keys, in one small file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from protos import files, signing
from protos.campaign import Keys, check_name
from protos.errors import ConfigurationError

FORMAT = "onebasin-request/1"


@dataclass(frozen=True)
class Request:
    """What a site hands to the coordinator.

    Attributes:
        site: Its name.
        signing_key: Ed25519 public key, 32 bytes: what it sends is signed with it.
        agreement_key: X25519 public key, 32 bytes: what is sent to it is sealed to it.
        node_key: Its SuperNode's public key, in OpenSSH's one-line form.

    """

    site: str
    signing_key: bytes
    agreement_key: bytes
    node_key: str

    @property
    def keys(self) -> Keys:
        """The keys that a campaign lists for it."""
        return Keys(self.signing_key, self.agreement_key)

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that the file is the site's."""
        return signing.fingerprint(self.signing_key + self.agreement_key + self.node_key.encode())

    def write(self, path: Path) -> None:
        """Write the request file."""
        content = {
            "format": FORMAT,
            "site": self.site,
            "signing_key": self.signing_key.hex(),
            "agreement_key": self.agreement_key.hex(),
            "node_key": self.node_key,
        }
        files.write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request file.

        Raises:
            ConfigurationError: It is missing, or no request.

        """
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise ValueError(content["format"])
            signs, agrees = (bytes.fromhex(content[name]) for name in ("signing_key", "agreement_key"))
            node_key = str(content["node_key"]).strip()
            known = node_key.startswith("ecdsa-sha2-nistp384 ") and "\n" not in node_key
            if len(signs) != 32 or len(agrees) != 32 or not known:
                raise ValueError("keys")
            return cls(check_name(str(content["site"]), "site"), signs, agrees, node_key)
        except OSError as error:
            raise ConfigurationError(f"can't read the request {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path} is not a site's request file", "take request.json from the site's folder"
            ) from error
