from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Copy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COPY_UNSPECIFIED: _ClassVar[Copy]
    COPY_STUDENT: _ClassVar[Copy]
    COPY_TEACHER: _ClassVar[Copy]

class Buffers(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUFFERS_UNSPECIFIED: _ClassVar[Buffers]
    BUFFERS_POOLED: _ClassVar[Buffers]
    BUFFERS_OWN: _ClassVar[Buffers]
    BUFFERS_RECALIBRATED: _ClassVar[Buffers]
    BUFFERS_POOLED_RECALIBRATED: _ClassVar[Buffers]
    BUFFERS_ROUTED: _ClassVar[Buffers]

class Privacy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIVACY_UNSPECIFIED: _ClassVar[Privacy]
    PRIVACY_SEALED: _ClassVar[Privacy]
    PRIVACY_SECURE_SUM: _ClassVar[Privacy]

class AtDeadline(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AT_DEADLINE_UNSPECIFIED: _ClassVar[AtDeadline]
    AT_DEADLINE_MERGE: _ClassVar[AtDeadline]
    AT_DEADLINE_FAIL: _ClassVar[AtDeadline]
    AT_DEADLINE_WAIT: _ClassVar[AtDeadline]

class Weighing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEIGHING_UNSPECIFIED: _ClassVar[Weighing]
    WEIGHING_SITES: _ClassVar[Weighing]
    WEIGHING_MEMBERS: _ClassVar[Weighing]
COPY_UNSPECIFIED: Copy
COPY_STUDENT: Copy
COPY_TEACHER: Copy
BUFFERS_UNSPECIFIED: Buffers
BUFFERS_POOLED: Buffers
BUFFERS_OWN: Buffers
BUFFERS_RECALIBRATED: Buffers
BUFFERS_POOLED_RECALIBRATED: Buffers
BUFFERS_ROUTED: Buffers
PRIVACY_UNSPECIFIED: Privacy
PRIVACY_SEALED: Privacy
PRIVACY_SECURE_SUM: Privacy
AT_DEADLINE_UNSPECIFIED: AtDeadline
AT_DEADLINE_MERGE: AtDeadline
AT_DEADLINE_FAIL: AtDeadline
AT_DEADLINE_WAIT: AtDeadline
WEIGHING_UNSPECIFIED: Weighing
WEIGHING_SITES: Weighing
WEIGHING_MEMBERS: Weighing

class Member(_message.Message):
    __slots__ = ("site", "signing_key", "agreement_key", "region_key")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    REGION_KEY_FIELD_NUMBER: _ClassVar[int]
    site: str
    signing_key: bytes
    agreement_key: bytes
    region_key: bytes
    def __init__(self, site: _Optional[str] = ..., signing_key: _Optional[bytes] = ..., agreement_key: _Optional[bytes] = ..., region_key: _Optional[bytes] = ...) -> None: ...

class Rules(_message.Message):
    __slots__ = ("minimum_sites", "deadline_seconds", "patience_seconds", "compare_single_models", "copy", "evaluate", "buffers", "deliver", "privacy", "code_digest", "at_deadline", "required", "weighing", "most_sites", "send_on")
    MINIMUM_SITES_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPARE_SINGLE_MODELS_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    DELIVER_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    CODE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    AT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    WEIGHING_FIELD_NUMBER: _ClassVar[int]
    MOST_SITES_FIELD_NUMBER: _ClassVar[int]
    SEND_ON_FIELD_NUMBER: _ClassVar[int]
    minimum_sites: int
    deadline_seconds: int
    patience_seconds: int
    compare_single_models: bool
    copy: Copy
    evaluate: bool
    buffers: Buffers
    deliver: bool
    privacy: Privacy
    code_digest: bytes
    at_deadline: AtDeadline
    required: _containers.RepeatedScalarFieldContainer[str]
    weighing: Weighing
    most_sites: int
    send_on: bool
    def __init__(self, minimum_sites: _Optional[int] = ..., deadline_seconds: _Optional[int] = ..., patience_seconds: _Optional[int] = ..., compare_single_models: _Optional[bool] = ..., copy: _Optional[_Union[Copy, str]] = ..., evaluate: _Optional[bool] = ..., buffers: _Optional[_Union[Buffers, str]] = ..., deliver: _Optional[bool] = ..., privacy: _Optional[_Union[Privacy, str]] = ..., code_digest: _Optional[bytes] = ..., at_deadline: _Optional[_Union[AtDeadline, str]] = ..., required: _Optional[_Iterable[str]] = ..., weighing: _Optional[_Union[Weighing, str]] = ..., most_sites: _Optional[int] = ..., send_on: _Optional[bool] = ...) -> None: ...

class Campaign(_message.Message):
    __slots__ = ("wire_version", "name", "base_digest", "model", "classes", "members", "rules", "coordinator_key", "nonce", "coordinator_agreement_key")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_KEY_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_AGREEMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    name: str
    base_digest: bytes
    model: str
    classes: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    rules: Rules
    coordinator_key: bytes
    nonce: bytes
    coordinator_agreement_key: bytes
    def __init__(self, wire_version: _Optional[int] = ..., name: _Optional[str] = ..., base_digest: _Optional[bytes] = ..., model: _Optional[str] = ..., classes: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., rules: _Optional[_Union[Rules, _Mapping]] = ..., coordinator_key: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., coordinator_agreement_key: _Optional[bytes] = ...) -> None: ...
