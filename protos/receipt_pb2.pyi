from protos import update_pb2 as _update_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Receipt(_message.Message):
    __slots__ = ("wire_version", "campaign_digest", "base_digest", "inputs", "parameter_rule", "buffer_rule", "merged_digest", "models", "created_unix", "versions")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_RULE_FIELD_NUMBER: _ClassVar[int]
    BUFFER_RULE_FIELD_NUMBER: _ClassVar[int]
    MERGED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    campaign_digest: bytes
    base_digest: bytes
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    parameter_rule: str
    buffer_rule: str
    merged_digest: bytes
    models: int
    created_unix: int
    versions: _containers.RepeatedCompositeFieldContainer[_update_pb2.Version]
    def __init__(self, wire_version: _Optional[int] = ..., campaign_digest: _Optional[bytes] = ..., base_digest: _Optional[bytes] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., parameter_rule: _Optional[str] = ..., buffer_rule: _Optional[str] = ..., merged_digest: _Optional[bytes] = ..., models: _Optional[int] = ..., created_unix: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[_update_pb2.Version, _Mapping]]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("site", "update_digest", "measured_digest")
    SITE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEASURED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    site: str
    update_digest: bytes
    measured_digest: bytes
    def __init__(self, site: _Optional[str] = ..., update_digest: _Optional[bytes] = ..., measured_digest: _Optional[bytes] = ...) -> None: ...
