from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SiteRequest(_message.Message):
    __slots__ = ("wire_version", "site", "signing_key", "agreement_key", "node_key", "region_key")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    NODE_KEY_FIELD_NUMBER: _ClassVar[int]
    REGION_KEY_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    site: str
    signing_key: bytes
    agreement_key: bytes
    node_key: str
    region_key: bytes
    def __init__(self, wire_version: _Optional[int] = ..., site: _Optional[str] = ..., signing_key: _Optional[bytes] = ..., agreement_key: _Optional[bytes] = ..., node_key: _Optional[str] = ..., region_key: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("wire_version", "site", "request_digest", "coordinator_key", "agreement_key", "ca_certificates", "addresses", "campaigns", "issued_unix")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_KEY_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGNS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_UNIX_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    site: str
    request_digest: bytes
    coordinator_key: bytes
    agreement_key: bytes
    ca_certificates: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    campaigns: _containers.RepeatedScalarFieldContainer[bytes]
    issued_unix: int
    def __init__(self, wire_version: _Optional[int] = ..., site: _Optional[str] = ..., request_digest: _Optional[bytes] = ..., coordinator_key: _Optional[bytes] = ..., agreement_key: _Optional[bytes] = ..., ca_certificates: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., campaigns: _Optional[_Iterable[bytes]] = ..., issued_unix: _Optional[int] = ...) -> None: ...
