from protos import campaign_pb2 as _campaign_pb2
from protos import update_pb2 as _update_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Agreement(_message.Message):
    __slots__ = ("campaign_digest", "nonce", "members", "threshold")
    CAMPAIGN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    campaign_digest: bytes
    nonce: bytes
    members: _containers.RepeatedCompositeFieldContainer[_campaign_pb2.Member]
    threshold: int
    def __init__(self, campaign_digest: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., members: _Optional[_Iterable[_Union[_campaign_pb2.Member, _Mapping]]] = ..., threshold: _Optional[int] = ...) -> None: ...

class Said(_message.Message):
    __slots__ = ("site", "envelope")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    site: str
    envelope: _update_pb2.Signed
    def __init__(self, site: _Optional[str] = ..., envelope: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ...) -> None: ...

class Keys(_message.Message):
    __slots__ = ("agreement", "site", "mask_key", "share_key", "commitment")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SHARE_KEY_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    site: str
    mask_key: bytes
    share_key: bytes
    commitment: bytes
    def __init__(self, agreement: _Optional[bytes] = ..., site: _Optional[str] = ..., mask_key: _Optional[bytes] = ..., share_key: _Optional[bytes] = ..., commitment: _Optional[bytes] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Said]
    def __init__(self, keys: _Optional[_Iterable[_Union[Said, _Mapping]]] = ...) -> None: ...

class Shares(_message.Message):
    __slots__ = ("agreement", "site", "roster", "sealed")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    site: str
    roster: bytes
    sealed: _containers.RepeatedCompositeFieldContainer[Sealed]
    def __init__(self, agreement: _Optional[bytes] = ..., site: _Optional[str] = ..., roster: _Optional[bytes] = ..., sealed: _Optional[_Iterable[_Union[Sealed, _Mapping]]] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("site", "content")
    SITE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    site: str
    content: bytes
    def __init__(self, site: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("sealed",)
    SEALED_FIELD_NUMBER: _ClassVar[int]
    sealed: _containers.RepeatedCompositeFieldContainer[Sealed]
    def __init__(self, sealed: _Optional[_Iterable[_Union[Sealed, _Mapping]]] = ...) -> None: ...

class Masked(_message.Message):
    __slots__ = ("agreement", "site", "roster", "sharers", "vectors")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    site: str
    roster: bytes
    sharers: _containers.RepeatedScalarFieldContainer[str]
    vectors: _containers.RepeatedCompositeFieldContainer[Vector]
    def __init__(self, agreement: _Optional[bytes] = ..., site: _Optional[str] = ..., roster: _Optional[bytes] = ..., sharers: _Optional[_Iterable[str]] = ..., vectors: _Optional[_Iterable[_Union[Vector, _Mapping]]] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("key", "sha256")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    key: str
    sha256: bytes
    def __init__(self, key: _Optional[str] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Survivors(_message.Message):
    __slots__ = ("sites",)
    SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sites: _Optional[_Iterable[str]] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("agreement", "site", "roster", "sharers", "survivors")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    site: str
    roster: bytes
    sharers: _containers.RepeatedScalarFieldContainer[str]
    survivors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agreement: _Optional[bytes] = ..., site: _Optional[str] = ..., roster: _Optional[bytes] = ..., sharers: _Optional[_Iterable[str]] = ..., survivors: _Optional[_Iterable[str]] = ...) -> None: ...

class Confirmations(_message.Message):
    __slots__ = ("confirmations",)
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    confirmations: _containers.RepeatedCompositeFieldContainer[Said]
    def __init__(self, confirmations: _Optional[_Iterable[_Union[Said, _Mapping]]] = ...) -> None: ...

class Reveal(_message.Message):
    __slots__ = ("agreement", "site", "roster", "seeds", "mask_keys")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    MASK_KEYS_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    site: str
    roster: bytes
    seeds: _containers.RepeatedCompositeFieldContainer[Share]
    mask_keys: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, agreement: _Optional[bytes] = ..., site: _Optional[str] = ..., roster: _Optional[bytes] = ..., seeds: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., mask_keys: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("site", "share")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    site: str
    share: bytes
    def __init__(self, site: _Optional[str] = ..., share: _Optional[bytes] = ...) -> None: ...

class SiteState(_message.Message):
    __slots__ = ("stage", "agreement", "site", "spent", "mask_secret", "share_secret", "seed", "roster", "held", "update", "survivors")
    class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STAGE_UNSPECIFIED: _ClassVar[SiteState.Stage]
        STAGE_ADVERTISED: _ClassVar[SiteState.Stage]
        STAGE_SHARED: _ClassVar[SiteState.Stage]
        STAGE_MASKED: _ClassVar[SiteState.Stage]
        STAGE_CONFIRMED: _ClassVar[SiteState.Stage]
        STAGE_REVEALED: _ClassVar[SiteState.Stage]
    STAGE_UNSPECIFIED: SiteState.Stage
    STAGE_ADVERTISED: SiteState.Stage
    STAGE_SHARED: SiteState.Stage
    STAGE_MASKED: SiteState.Stage
    STAGE_CONFIRMED: SiteState.Stage
    STAGE_REVEALED: SiteState.Stage
    STAGE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    MASK_SECRET_FIELD_NUMBER: _ClassVar[int]
    SHARE_SECRET_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    stage: SiteState.Stage
    agreement: Agreement
    site: str
    spent: _containers.RepeatedScalarFieldContainer[bytes]
    mask_secret: bytes
    share_secret: bytes
    seed: bytes
    roster: Roster
    held: _containers.RepeatedCompositeFieldContainer[Held]
    update: bytes
    survivors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stage: _Optional[_Union[SiteState.Stage, str]] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ..., site: _Optional[str] = ..., spent: _Optional[_Iterable[bytes]] = ..., mask_secret: _Optional[bytes] = ..., share_secret: _Optional[bytes] = ..., seed: _Optional[bytes] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., update: _Optional[bytes] = ..., survivors: _Optional[_Iterable[str]] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("state", "asked", "said", "masked")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    asked: bytes
    said: _update_pb2.Signed
    masked: _update_pb2.Signed
    def __init__(self, state: _Optional[bytes] = ..., asked: _Optional[bytes] = ..., said: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ..., masked: _Optional[_Union[_update_pb2.Signed, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("begun", "said", "closed")
    class Closed(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    begun: bytes
    said: Said
    closed: Entry.Closed
    def __init__(self, begun: _Optional[bytes] = ..., said: _Optional[_Union[Said, _Mapping]] = ..., closed: _Optional[_Union[Entry.Closed, _Mapping]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("site", "seed", "mask_key")
    SITE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    site: str
    seed: bytes
    mask_key: bytes
    def __init__(self, site: _Optional[str] = ..., seed: _Optional[bytes] = ..., mask_key: _Optional[bytes] = ...) -> None: ...
