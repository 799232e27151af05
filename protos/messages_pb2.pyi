from protos import securesum_pb2 as _securesum_pb2
from protos import update_pb2 as _update_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_DATA: _ClassVar[Phase]
    PHASE_ADAPT: _ClassVar[Phase]
    PHASE_UPDATE: _ClassVar[Phase]
PHASE_UNSPECIFIED: Phase
PHASE_DATA: Phase
PHASE_ADAPT: Phase
PHASE_UPDATE: Phase

class Letter(_message.Message):
    __slots__ = ("campaign_digest", "site", "nonce", "expires", "hello", "sealed")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    site: str
    nonce: bytes
    expires: int
    hello: Hello
    sealed: Sealed
    def __init__(self, campaign_digest: _Optional[bytes] = ..., site: _Optional[str] = ..., nonce: _Optional[bytes] = ..., expires: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., sealed: _Optional[_Union[Sealed, _Mapping]] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("ephemeral_key", "content")
    EPHEMERAL_KEY_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ephemeral_key: bytes
    content: bytes
    def __init__(self, ephemeral_key: _Optional[bytes] = ..., content: _Optional[bytes] = ...) -> None: ...

class Returned(_message.Message):
    __slots__ = ("letter", "refusal")
    LETTER_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    letter: _update_pb2.Signed
    refusal: Refusal
    def __init__(self, letter: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("campaign_digest", "hello", "adapt", "progress", "submit", "evaluate", "deliver", "measure", "adopt", "sum", "cancel")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ADAPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    DELIVER_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    ADOPT_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    hello: Hello
    adapt: Adapt
    progress: ProgressQuery
    submit: Submit
    evaluate: Evaluate
    deliver: Deliver
    measure: Measure
    adopt: Adopt
    sum: SumStage
    cancel: Cancel
    def __init__(self, campaign_digest: _Optional[bytes] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., adapt: _Optional[_Union[Adapt, _Mapping]] = ..., progress: _Optional[_Union[ProgressQuery, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ..., evaluate: _Optional[_Union[Evaluate, _Mapping]] = ..., deliver: _Optional[_Union[Deliver, _Mapping]] = ..., measure: _Optional[_Union[Measure, _Mapping]] = ..., adopt: _Optional[_Union[Adopt, _Mapping]] = ..., sum: _Optional[_Union[SumStage, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class Adapt(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProgressQuery(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Submit(_message.Message):
    __slots__ = ("header", "parameters")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    header: bool
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[bool] = ..., parameters: _Optional[_Iterable[str]] = ...) -> None: ...

class Deliver(_message.Message):
    __slots__ = ("pieces",)
    PIECES_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedCompositeFieldContainer[Piece]
    def __init__(self, pieces: _Optional[_Iterable[_Union[Piece, _Mapping]]] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("digest", "parameters")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digest: _Optional[bytes] = ..., parameters: _Optional[_Iterable[str]] = ...) -> None: ...

class Evaluate(_message.Message):
    __slots__ = ("nonce", "candidates", "buffer_sets")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BUFFER_SETS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    buffer_sets: _containers.RepeatedCompositeFieldContainer[BufferSet]
    def __init__(self, nonce: _Optional[bytes] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., buffer_sets: _Optional[_Iterable[_Union[BufferSet, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("key", "parameters", "buffers")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Candidate.Kind]
        KIND_BASE: _ClassVar[Candidate.Kind]
        KIND_OWN: _ClassVar[Candidate.Kind]
        KIND_CARRIED: _ClassVar[Candidate.Kind]
        KIND_RECALIBRATED: _ClassVar[Candidate.Kind]
        KIND_ROUTED: _ClassVar[Candidate.Kind]
    KIND_UNSPECIFIED: Candidate.Kind
    KIND_BASE: Candidate.Kind
    KIND_OWN: Candidate.Kind
    KIND_CARRIED: Candidate.Kind
    KIND_RECALIBRATED: Candidate.Kind
    KIND_ROUTED: Candidate.Kind
    class Source(_message.Message):
        __slots__ = ("kind", "set", "digest", "sets")
        KIND_FIELD_NUMBER: _ClassVar[int]
        SET_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        SETS_FIELD_NUMBER: _ClassVar[int]
        kind: Candidate.Kind
        set: str
        digest: bytes
        sets: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, kind: _Optional[_Union[Candidate.Kind, str]] = ..., set: _Optional[str] = ..., digest: _Optional[bytes] = ..., sets: _Optional[_Iterable[str]] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    key: str
    parameters: Candidate.Source
    buffers: Candidate.Source
    def __init__(self, key: _Optional[str] = ..., parameters: _Optional[_Union[Candidate.Source, _Mapping]] = ..., buffers: _Optional[_Union[Candidate.Source, _Mapping]] = ...) -> None: ...

class BufferSet(_message.Message):
    __slots__ = ("set", "batch_norms")
    SET_FIELD_NUMBER: _ClassVar[int]
    BATCH_NORMS_FIELD_NUMBER: _ClassVar[int]
    set: str
    batch_norms: _containers.RepeatedCompositeFieldContainer[_update_pb2.BatchNorm]
    def __init__(self, set: _Optional[str] = ..., batch_norms: _Optional[_Iterable[_Union[_update_pb2.BatchNorm, _Mapping]]] = ...) -> None: ...

class Measure(_message.Message):
    __slots__ = ("nonce", "digest")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    digest: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Adopt(_message.Message):
    __slots__ = ("digest", "buffer_sets", "receipt")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUFFER_SETS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    buffer_sets: _containers.RepeatedCompositeFieldContainer[BufferSet]
    receipt: bytes
    def __init__(self, digest: _Optional[bytes] = ..., buffer_sets: _Optional[_Iterable[_Union[BufferSet, _Mapping]]] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class SumStage(_message.Message):
    __slots__ = ("nonce", "roster", "delivery", "survivors", "confirmations")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    roster: _securesum_pb2.Roster
    delivery: _securesum_pb2.Delivery
    survivors: _securesum_pb2.Survivors
    confirmations: _securesum_pb2.Confirmations
    def __init__(self, nonce: _Optional[bytes] = ..., roster: _Optional[_Union[_securesum_pb2.Roster, _Mapping]] = ..., delivery: _Optional[_Union[_securesum_pb2.Delivery, _Mapping]] = ..., survivors: _Optional[_Union[_securesum_pb2.Survivors, _Mapping]] = ..., confirmations: _Optional[_Union[_securesum_pb2.Confirmations, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("hello", "progress", "header", "parameters", "evaluation", "refusal", "delivered", "measured", "adopted", "summed")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    ADOPTED_FIELD_NUMBER: _ClassVar[int]
    SUMMED_FIELD_NUMBER: _ClassVar[int]
    hello: _update_pb2.Signed
    progress: Progress
    header: _update_pb2.Signed
    parameters: Parameters
    evaluation: _update_pb2.Signed
    refusal: Refusal
    delivered: Delivered
    measured: _update_pb2.Signed
    adopted: Adopted
    summed: _update_pb2.Signed
    def __init__(self, hello: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., header: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., parameters: _Optional[_Union[Parameters, _Mapping]] = ..., evaluation: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., delivered: _Optional[_Union[Delivered, _Mapping]] = ..., measured: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., adopted: _Optional[_Union[Adopted, _Mapping]] = ..., summed: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("campaign_digest", "base_digest", "nonce", "node_id", "site")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    base_digest: bytes
    nonce: bytes
    node_id: int
    site: str
    def __init__(self, campaign_digest: _Optional[bytes] = ..., base_digest: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., node_id: _Optional[int] = ..., site: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("state", "phase", "step", "steps", "eta_seconds", "tensor")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Progress.State]
        STATE_IDLE: _ClassVar[Progress.State]
        STATE_ADAPTING: _ClassVar[Progress.State]
        STATE_READY: _ClassVar[Progress.State]
        STATE_FAILED: _ClassVar[Progress.State]
        STATE_STOPPED: _ClassVar[Progress.State]
    STATE_UNSPECIFIED: Progress.State
    STATE_IDLE: Progress.State
    STATE_ADAPTING: Progress.State
    STATE_READY: Progress.State
    STATE_FAILED: Progress.State
    STATE_STOPPED: Progress.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    state: Progress.State
    phase: Phase
    step: int
    steps: int
    eta_seconds: float
    tensor: str
    def __init__(self, state: _Optional[_Union[Progress.State, str]] = ..., phase: _Optional[_Union[Phase, str]] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., eta_seconds: _Optional[float] = ..., tensor: _Optional[str] = ...) -> None: ...

class Parameters(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Delivered(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Measured(_message.Message):
    __slots__ = ("campaign_digest", "nonce", "site", "digest", "batch_norms")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BATCH_NORMS_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    nonce: bytes
    site: str
    digest: bytes
    batch_norms: _containers.RepeatedCompositeFieldContainer[_update_pb2.BatchNorm]
    def __init__(self, campaign_digest: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., site: _Optional[str] = ..., digest: _Optional[bytes] = ..., batch_norms: _Optional[_Iterable[_Union[_update_pb2.BatchNorm, _Mapping]]] = ...) -> None: ...

class Adopted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("campaign_digest", "nonce", "site", "scores")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    nonce: bytes
    site: str
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    def __init__(self, campaign_digest: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., site: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("key", "classes", "confusion", "images")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    key: str
    classes: int
    confusion: _containers.RepeatedScalarFieldContainer[int]
    images: int
    def __init__(self, key: _Optional[str] = ..., classes: _Optional[int] = ..., confusion: _Optional[_Iterable[int]] = ..., images: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "site", "tensor", "member")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Refusal.Reason]
        REASON_INTERNAL: _ClassVar[Refusal.Reason]
        REASON_CAMPAIGN: _ClassVar[Refusal.Reason]
        REASON_BASE: _ClassVar[Refusal.Reason]
        REASON_NOT_READY: _ClassVar[Refusal.Reason]
        REASON_REQUEST: _ClassVar[Refusal.Reason]
        REASON_DATA: _ClassVar[Refusal.Reason]
        REASON_STORAGE: _ClassVar[Refusal.Reason]
        REASON_RULES: _ClassVar[Refusal.Reason]
        REASON_UPDATE: _ClassVar[Refusal.Reason]
        REASON_CONFIGURATION: _ClassVar[Refusal.Reason]
        REASON_NOT_DELIVERED: _ClassVar[Refusal.Reason]
        REASON_NOT_ACCEPTED: _ClassVar[Refusal.Reason]
        REASON_UNSIGNED: _ClassVar[Refusal.Reason]
        REASON_STALE: _ClassVar[Refusal.Reason]
        REASON_SUM: _ClassVar[Refusal.Reason]
        REASON_CLEARED: _ClassVar[Refusal.Reason]
    REASON_UNSPECIFIED: Refusal.Reason
    REASON_INTERNAL: Refusal.Reason
    REASON_CAMPAIGN: Refusal.Reason
    REASON_BASE: Refusal.Reason
    REASON_NOT_READY: Refusal.Reason
    REASON_REQUEST: Refusal.Reason
    REASON_DATA: Refusal.Reason
    REASON_STORAGE: Refusal.Reason
    REASON_RULES: Refusal.Reason
    REASON_UPDATE: Refusal.Reason
    REASON_CONFIGURATION: Refusal.Reason
    REASON_NOT_DELIVERED: Refusal.Reason
    REASON_NOT_ACCEPTED: Refusal.Reason
    REASON_UNSIGNED: Refusal.Reason
    REASON_STALE: Refusal.Reason
    REASON_SUM: Refusal.Reason
    REASON_CLEARED: Refusal.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    reason: Refusal.Reason
    site: str
    tensor: str
    member: str
    def __init__(self, reason: _Optional[_Union[Refusal.Reason, str]] = ..., site: _Optional[str] = ..., tensor: _Optional[str] = ..., member: _Optional[str] = ...) -> None: ...
