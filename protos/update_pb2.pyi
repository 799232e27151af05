from protos import campaign_pb2 as _campaign_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT16: _ClassVar[DType]
    DTYPE_BFLOAT16: _ClassVar[DType]
    DTYPE_SUM: _ClassVar[DType]
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT16: DType
DTYPE_BFLOAT16: DType
DTYPE_SUM: DType

class Parameter(_message.Message):
    __slots__ = ("name", "dtype", "shape", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    sha256: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class BatchNorm(_message.Message):
    __slots__ = ("layer", "mean", "var", "count")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    VAR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    mean: _containers.RepeatedScalarFieldContainer[float]
    var: _containers.RepeatedScalarFieldContainer[float]
    count: int
    def __init__(self, layer: _Optional[str] = ..., mean: _Optional[_Iterable[float]] = ..., var: _Optional[_Iterable[float]] = ..., count: _Optional[int] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("wire_version", "campaign_digest", "base_digest", "site", "copy", "parameters", "batch_norms", "versions", "region", "layer_sums")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    COPY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BATCH_NORMS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    LAYER_SUMS_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    campaign_digest: bytes
    base_digest: bytes
    site: str
    copy: _campaign_pb2.Copy
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    batch_norms: _containers.RepeatedCompositeFieldContainer[BatchNorm]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    region: Signed
    layer_sums: _containers.RepeatedCompositeFieldContainer[LayerSums]
    def __init__(self, wire_version: _Optional[int] = ..., campaign_digest: _Optional[bytes] = ..., base_digest: _Optional[bytes] = ..., site: _Optional[str] = ..., copy: _Optional[_Union[_campaign_pb2.Copy, str]] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., batch_norms: _Optional[_Iterable[_Union[BatchNorm, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., region: _Optional[_Union[Signed, _Mapping]] = ..., layer_sums: _Optional[_Iterable[_Union[LayerSums, _Mapping]]] = ...) -> None: ...

class LayerSums(_message.Message):
    __slots__ = ("layer", "count", "mean", "square")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    count: bytes
    mean: bytes
    square: bytes
    def __init__(self, layer: _Optional[str] = ..., count: _Optional[bytes] = ..., mean: _Optional[bytes] = ..., square: _Optional[bytes] = ...) -> None: ...

class RegionSum(_message.Message):
    __slots__ = ("campaign_digest", "region", "models", "receipt", "content", "sites")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    region: str
    models: int
    receipt: bytes
    content: bytes
    sites: bytes
    def __init__(self, campaign_digest: _Optional[bytes] = ..., region: _Optional[str] = ..., models: _Optional[int] = ..., receipt: _Optional[bytes] = ..., content: _Optional[bytes] = ..., sites: _Optional[bytes] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("purpose", "payload", "signature")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    payload: bytes
    signature: bytes
    def __init__(self, purpose: _Optional[str] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
