"""A site's request to take part: its name and its two public keys, in one small file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from protos import files, signing
from protos.campaign import check_name
from protos.errors import ConfigurationError

FORMAT = "onebasin-request/1"


@dataclass(frozen=True)
class Request:
    """What a site hands to the coordinator.

    Attributes:
        site: Its name.
        signing_key: Ed25519 public key, 32 bytes: what it sends is signed with it.
        node_key: Its SuperNode's public key, in OpenSSH's one-line form.

    """

    site: str
    signing_key: bytes
    node_key: str

    @property
    def fingerprint(self) -> str:
        """What people read to each other to make sure that the file is the site's."""
        return signing.fingerprint(self.signing_key + self.node_key.encode())

    def write(self, path: Path) -> None:
        """Write the request file."""
        content = {
            "format": FORMAT,
            "site": self.site,
            "signing_key": self.signing_key.hex(),
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
            key = bytes.fromhex(content["signing_key"])
            node_key = str(content["node_key"])
            if len(key) != 32 or not node_key.startswith("ecdsa-sha2-nistp384 ") or "\n" in node_key.strip():
                raise ValueError("keys")
            return cls(check_name(str(content["site"]), "site"), key, node_key.strip())
        except OSError as error:
            raise ConfigurationError(f"can't read the request {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path} is not a site's request file", "take request.json from the site's folder"
            ) from error
