"""Builders that all tests share: small random models, and a coordinator with sites that joined its campaign."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client import acceptance, correspondence
from client.answers import answer
from client.outbox import Outbox
from client.site import Joined, Site
from coordinator.home import CampaignFolder, Home
from coordinator.merge.state import Update
from protos import dtypes, flower, securesum_pb2, signing, update_pb2
from protos import messages_pb2 as pb
from protos.audit import Anchor
from protos.boundary import BatchNorm
from protos.campaign import Campaign, Rules
from protos.errors import OnebasinError
from protos.manifest import COUNT, MEAN, VAR, Manifest, TensorSpec, join
from protos.receipts import BUFFER_RULE, PARAMETER_RULE, Input, Merged, Receipt
from protos.securesum import coordinator as collecting
from protos.securesum import memory
from protos.securesum import site as securesum
from protos.securesum.agreement import Agreement, default_threshold
from protos.securesum.layout import Layout, layout
from protos.securesum.total import MaskedSum, Read
from protos.tensorfile import TensorFile, write_tensors
from protos.update_pb2 import Signed

Model = dict[str, np.ndarray]
S = TypeVar("S", bound=securesum.AnyState)

PARAMETERS = {
    "head.bias": (5,),
    "head.weight": (5, 4),
    "norm.bias": (4,),
    "norm.weight": (4,),
    "scale": (),
    "stem.weight": (4, 3, 3, 3),
    "unused": (0, 7),
    "xnorm.deep.bias": (3,),
    "xnorm.deep.weight": (3,),
}
LAYERS = {"norm": 4, "xnorm.deep": 3}


def spec_of(array: np.ndarray) -> TensorSpec:
    """Return an array's spec; NumPy has no bfloat16, so uint16 stands for it."""
    name = "bfloat16" if array.dtype == np.uint16 else str(array.dtype)
    return TensorSpec(dtypes.by_name(name), array.shape)


def manifest_of(model: Mapping[str, np.ndarray]) -> Manifest:
    return Manifest({name: spec_of(array) for name, array in model.items()})


def random_model(seed: int, dtype: str = "float32", *, exact: bool = False) -> Model:
    """Draw a model with two BatchNorm layers, a 0-d and an empty parameter, and a buffer that is no statistic.

    Values span many magnitudes; with `exact` all parameters are multiples of 2⁻²⁰.
    """
    rng = np.random.default_rng(seed)
    narrow = dtypes.by_name(dtype).narrow
    model: Model = {}
    for name, shape in PARAMETERS.items():
        values = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 2, size=shape)
        if exact:
            values = np.rint(values * 2**20) / 2**20
        model[name] = np.asarray(narrow(np.asarray(values, np.float32))).reshape(shape)
    for layer, channels in LAYERS.items():
        model[join(layer, MEAN)] = narrow(rng.normal(size=channels).astype(np.float32))
        model[join(layer, VAR)] = narrow(rng.gamma(2.0, size=channels).astype(np.float32))
        model[join(layer, COUNT)] = np.asarray(rng.integers(1, 5000), np.int64)
    model["table"] = np.arange(6, dtype=np.int64).reshape(2, 3)
    return model


def save(path: Path, model: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    ordered = {name: model[name] for name in sorted(model)}
    specs = {name: spec_of(array) for name, array in ordered.items()}
    write_tensors(path, specs, lambda name: [ordered[name].tobytes()], metadata)
    return path


def statistics_of(model: Mapping[str, np.ndarray]) -> dict[str, BatchNorm]:
    manifest = manifest_of(model)

    def wide(name: str) -> np.ndarray:
        return manifest.tensors[name].dtype.widen(model[name])

    return {
        layer: BatchNorm(wide(join(layer, MEAN)), wide(join(layer, VAR)), int(model[join(layer, COUNT)]))
        for layer in manifest.layers
    }


def digest_of(site: str) -> bytes:
    return hashlib.sha256(site.encode()).digest()


@dataclass
class World:
    """A coordinator, its campaign, and sites that joined it and finished adapting."""

    home: Home
    folder: CampaignFolder
    base: Path
    base_model: Model
    sites: dict[str, Site]
    models: dict[str, Model]

    @property
    def campaign(self) -> Campaign:
        return self.folder.campaign

    @property
    def manifest(self) -> Manifest:
        return manifest_of(self.base_model)

    def joined(self, site: str) -> Joined:
        return self.sites[site].joined(self.campaign.digest)

    def outbox(self, site: str) -> Outbox:
        return Outbox(self.joined(site))


def _adapted(base: Model, seed: int, dtype: str) -> Model:
    """Return another model whose buffers that are no statistics are the base's."""
    return {**random_model(seed, dtype), "table": base["table"]}


def build_world(
    folder: Path,
    names: tuple[str, ...] = ("clear", "fog", "night"),
    rules: Rules | None = None,
    *,
    dtype: str = "float32",
    store: bool = True,
    campaign: str = "one",
    models: Mapping[str, Model] | None = None,
    base_model: Model | None = None,
    classes: int = 5,
) -> World:
    """Make it all in `folder`."""
    home = Home.init(
        folder / "coordinator", hosts=("localhost", "127.0.0.1"), control_port=9093, fleet_address="127.0.0.1:9092"
    )
    base_model = random_model(0, dtype) if base_model is None else base_model
    base = save(folder / "base.safetensors", base_model, {"model": "tiny-resnet", "classes": str(classes)})
    sites = {name: Site.init(folder / name, name, address="127.0.0.1:9092", domain="night") for name in names}
    members = {name: site.request().keys for name, site in sites.items()}
    made = home.create(campaign, base, members=members, rules=rules or Rules())
    found = dict(models or {name: _adapted(base_model, i + 1, dtype) for i, name in enumerate(names)})
    for name, site in sites.items():
        joined = site.join(made.campaign_file, base, home.keys / "ca.crt")
        acceptance.accept(joined, made.campaign.digest.hex())
        if store:
            Outbox(joined).store(found[name])
    return World(home, made, base, base_model, sites, found)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutations", type=int, default=4000, help="damaged letters that tests/attacks tries")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep PyTorch on one thread: small networks are no faster on two, and far slower on cores in use."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> Callable[..., Model]:
    """Return `random_model`."""
    return random_model


@pytest.fixture(scope="session")
def manifest_for() -> Callable[[Mapping[str, np.ndarray]], Manifest]:
    """Return `manifest_of`."""
    return manifest_of


@pytest.fixture(scope="session")
def saved() -> Callable[..., Path]:
    """Return `save`."""
    return save


@pytest.fixture(scope="session")
def statistics_in() -> Callable[[Mapping[str, np.ndarray]], dict[str, BatchNorm]]:
    """Return `statistics_of`."""
    return statistics_of


@pytest.fixture(scope="session")
def update(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Update]]:
    """Return a function that makes a term of the merge out of a model."""
    folder = tmp_path_factory.mktemp("updates")
    count = 0
    with ExitStack() as opened:

        def make(model: Mapping[str, np.ndarray], site: str) -> Update:
            nonlocal count
            count += 1
            file = TensorFile(save(folder / f"{count}.safetensors", model))
            return opened.enter_context(Update(file, statistics_of(model), digest_of(site), site))

        yield make


def receipt_of(sites: Iterable[str] = ("clear", "fog", "night"), **changes: object) -> Receipt:
    """Make a receipt of updates that there are not."""
    fields: dict[str, object] = {
        "campaign": "autumn",
        "campaign_digest": "c" * 64,
        "base_digest": "b" * 64,
        "rules": Rules(),
        "inputs": tuple(Input(site, digest_of(site).hex()) for site in sites),
        "withdrawn": (),
        "supersedes": "",
        "parameter_rule": PARAMETER_RULE,
        "buffer_rule": BUFFER_RULE,
        "models": 3,
        "merged": Merged("merged.safetensors", "e" * 64, "d" * 64),
        "audit": Anchor(3, "a" * 64),
        "created_unix": 1_790_000_000,
        "versions": {"onebasin": "1"},
    }
    return Receipt(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_receipt() -> Callable[..., Receipt]:
    """Return `receipt_of`."""
    return receipt_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A coordinator and three sites that finished adapting; the test may change what it likes."""
    return build_world(tmp_path)


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    """Return a function that makes worlds of other sizes and rules."""
    count = 0

    def make(*args: object, **kwargs: object) -> World:
        nonlocal count
        count += 1
        return build_world(tmp_path / f"world-{count}", *args, **kwargs)

    return make


# ---------------------------------------------------------------- secure sums


@dataclass
class SecureSum:
    """A coordinator and the sites of one secure sum. Between messages each site is written down and read again.

    Attributes:
        agreement: Whom and how many it takes.
        keys: The sites' signing keys.
        models: The sites' models.
        states: What each site remembers.
        words: What each site sent, masked.

    """

    agreement: Agreement
    keys: dict[str, Ed25519PrivateKey]
    models: dict[str, Model]
    states: dict[str, bytes] = field(default_factory=dict)
    words: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Mapping[str, Model], threshold: int = 0, nonce: bytes = b"n" * 16) -> SecureSum:
        """Begin among sites with fixed keys and these models."""
        keys = {site: Ed25519PrivateKey.from_private_bytes(digest_of(site)) for site in sorted(models)}
        members = {site: signing.public_bytes(key) for site, key in keys.items()}
        agreement = Agreement(digest_of("the campaign"), nonce, members, threshold or default_threshold(len(keys)))
        return cls(agreement, keys, dict(models))

    @property
    def layout(self) -> Layout:
        return layout(manifest_of(next(iter(self.models.values()))))

    def update(self, site: str) -> bytes:
        return digest_of(f"update of {site}")

    def at(self, site: str, stage: type[S]) -> S:
        return memory.expect(memory.load(self.states[site]), stage, self.agreement)

    def keep(self, site: str, done: tuple[securesum.AnyState, Signed]) -> Signed:
        self.states[site] = memory.dump(done[0])
        return done[1]

    # What a site does when it is asked.

    def begin(self, site: str) -> Signed:
        return self.keep(site, securesum.begin(self.agreement, site, self.keys[site]))

    def share(self, site: str, roster: securesum_pb2.Roster) -> Signed:
        return self.keep(site, self.at(site, securesum.Advertised).share(roster, self.keys[site]))

    def mask(self, site: str, delivery: securesum_pb2.Delivery) -> tuple[Signed, dict[str, np.ndarray]]:
        self.states[site] = memory.dump(self.at(site, securesum.Shared).receive(delivery, self.update(site)))
        return self.masked(site)

    def masked(self, site: str) -> tuple[Signed, dict[str, np.ndarray]]:
        """Mask a site's model, in pieces; the state stays as it is."""
        state = self.at(site, securesum.Masked)
        masker, model = state.masker(self.layout, self.update(site)), self.models[site]
        manifest, found = manifest_of(model), {}
        for name, spec in manifest.parameters.items():
            values, half = spec.dtype.widen(model[name]).reshape(-1), spec.size // 2
            pieces = [masker.parameter(name, 0, values[:half]), masker.parameter(name, half, values[half:])]
            found[f"sum:{name}"] = np.concatenate(pieces)
        for layer, statistics in statistics_of(model).items():
            found |= masker.statistics(layer, statistics)
        digests = {key: hashlib.sha256(found[key]).digest() for key in self.layout}
        return state.statement(digests, self.keys[site]), found

    def confirm(self, site: str, survivors: securesum_pb2.Survivors) -> Signed:
        return self.keep(site, self.at(site, securesum.Masked).confirm(survivors, self.keys[site]))

    def reveal(self, site: str, confirmations: securesum_pb2.Confirmations) -> Signed:
        return self.keep(site, self.at(site, securesum.Confirmed).reveal(confirmations, self.keys[site]))

    # What the coordinator does; each stage with those that answer, in their order.

    def sharing(self, sites: Iterable[str]) -> tuple[collecting.Sharing, securesum_pb2.Roster]:
        state = collecting.Advertising(self.agreement)
        for site in sites:
            state = state.take(site, self.begin(site))
        return state.close()

    def masking(
        self, state: collecting.Sharing, roster: securesum_pb2.Roster, sites: Iterable[str]
    ) -> tuple[collecting.Masking, dict[str, securesum_pb2.Delivery]]:
        for site in sites:
            state = state.take(site, self.share(site, roster))
        return state.close()

    def confirming(
        self,
        state: collecting.Masking,
        deliveries: Mapping[str, securesum_pb2.Delivery],
        sites: Iterable[str],
    ) -> tuple[collecting.Confirming, securesum_pb2.Survivors]:
        for site in sites:
            header, self.words[site] = self.mask(site, deliveries[site])
            state = state.take(site, header, self.layout)
        return state.close()

    def revealing(
        self, state: collecting.Confirming, survivors: securesum_pb2.Survivors, sites: Iterable[str]
    ) -> tuple[collecting.Revealing, securesum_pb2.Confirmations]:
        for site in sites:
            state = state.take(site, self.confirm(site, survivors))
        return state.close()

    def summed(self, state: collecting.Revealing) -> MaskedSum:
        """Take the masks away."""
        return MaskedSum(self.layout, self.reads(state.survivors), state.close())

    def reads(self, sites: Iterable[str]) -> list[Read]:
        """Return what reads sites' masked words where they lie."""
        return [
            lambda vector, start, stop, words=self.words[site]: words[vector.key][
                start * vector.width : stop * vector.width
            ]
            for site in sites
        ]

    def run(self, *answering: Iterable[str]) -> tuple[MaskedSum, tuple[str, ...]]:
        """Play all five stages, each with those that answer in it; return the sum and whose it is."""
        stages = [list(sites) for sites in answering or [self.agreement.sites] * 5]
        masking, deliveries = self.masking(*self.sharing(stages[0]), stages[1])
        confirming, survivors = self.confirming(masking, deliveries, stages[2])
        state, confirmations = self.revealing(confirming, survivors, stages[3])
        for site in stages[4]:
            state = state.take(site, self.reveal(site, confirmations))
        return self.summed(state), state.survivors


@pytest.fixture(scope="session")
def secure_sum() -> Callable[..., SecureSum]:
    """Return a function that begins a secure sum: of named models, or of so many random ones."""

    def make(models: int | Mapping[str, Model] = 3, threshold: int = 0, **options: bytes) -> SecureSum:
        if isinstance(models, int):
            models = {f"site-{i}": random_model(i) for i in range(models)}
        return SecureSum.of(models, threshold, **options)

    return make


# -------------------------------------------------- Flower without processes


@pytest.fixture
def flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Flower's messages be made outside of a task of Flower's."""
    for name, value in (("_task_id", 1), ("_run_id", 7), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


Reaction = pb.Reply | tuple[pb.Reply, Mapping[str, bytes]] | Error | None


def answered(site: Site, request: pb.Request, node: int, sets: Callable[[str], memoryview]) -> Reaction:
    """Answer as the site would, but without data to evaluate on: that would load PyTorch."""
    if request.WhichOneof("what") == "evaluate":
        return pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_DATA, site=site.name))
    return answer(site, request, node, sets)


@dataclass
class Parcel:
    """A request on its way, and the reply to it."""

    node: int
    request: pb.Request
    reply: Message | None
    wait: int


@dataclass
class FakeGrid(Grid):
    """Flower's Grid, in memory: each node is a site's folder, asked when its reply is pulled.

    Attributes:
        nodes: Sites by node.
        react: Gets the node, the site's name, the request and how often that kind was asked of it before; returns
            a reply, which the site signs and seals, a record, which stays as it is, an error of Flower's, None
            (the reply is lost), or ``...`` for what the site itself says.
        wait: How many times a reply is asked for before it is there; drawn anew for each.
        log: All that was asked: node and request.
        most: The most parts of models that were under way at once.

    """

    nodes: dict[int, Site]
    react: Callable[[int, str, pb.Request, int], object] = lambda *_: ...
    wait: Callable[[], int] = lambda: 0
    online: set[int] = field(default_factory=set)
    log: list[tuple[str, pb.Request]] = field(default_factory=list)
    most: int = 0
    refuse_push: Callable[[str, pb.Request], bool] = lambda *_: False
    parcels: dict[str, Parcel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.online = self.online or set(self.nodes)
        self._ids = itertools.count()
        self._asked: dict[tuple[int, str], int] = {}

    def set_run(self, run: object) -> None: ...

    run = create_message = send_and_receive = None

    def get_node_ids(self) -> Iterable[int]:
        return list(self.online)

    def asked(self, kind: str, site: str = "") -> list[pb.Request]:
        return [r for s, r in self.log if r.WhichOneof("what") == kind and site in ("", s)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str | None]:
        ids: list[str | None] = []
        for message in messages:
            node = message.metadata.dst_node_id
            site = self.nodes[node]
            request, received = self._received(site, message)
            self.log.append((site.name, request))
            if self.refuse_push(site.name, request):
                ids.append(None)
                continue
            message.metadata.__dict__["_message_id"] = name = f"message-{next(self._ids)}"
            self.parcels[name] = Parcel(
                node, request, self._replied(node, site, request, received, message), self.wait()
            )
            parts = [p for p in self.parcels.values() if p.request.WhichOneof("what") in ("submit", "deliver")]
            self.most = max(self.most, len(parts))
            ids.append(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for name in message_ids:
            parcel = self.parcels.get(name)
            if parcel is None or parcel.reply is None:
                continue
            if parcel.wait > 0:
                parcel.wait -= 1
                continue
            del self.parcels[name]
            yield parcel.reply

    def _received(self, site: Site, message: Message) -> tuple[pb.Request, correspondence.Received | None]:
        """Open a request as the site does; a site that can't is only ever greeted."""
        try:
            received = correspondence.receive(site, message.content)
        except OnebasinError:
            envelope = flower.message_of(message.content, update_pb2.Signed, "it")
            return pb.Request(hello=signing.decode(envelope.payload, pb.Letter, "it").hello), None
        return received.opened.message, received

    def _replied(
        self,
        node: int,
        site: Site,
        request: pb.Request,
        received: correspondence.Received | None,
        message: Message,
    ) -> Message | None:
        kind = request.WhichOneof("what")
        before = self._asked.get((node, kind), 0)
        self._asked[node, kind] = before + 1
        found = self.react(node, site.name, request, before)
        if isinstance(found, Error):
            return Message(found, reply_to=message)
        if received is None:
            return Message(correspondence.reply(site, message.content, node), reply_to=message)
        if found is ...:
            found = answered(site, request, node, received.parameters)
        if found is None:
            return None
        if isinstance(found, RecordDict):  # as it is, whoever made it
            return Message(found, reply_to=message)
        reply, sets = (found, {}) if isinstance(found, pb.Reply) else found
        return Message(received.answered(reply, dict(sets)), reply_to=message)


class Clock:
    """Time that passes only when someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.0005)  # lets the folding thread run

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the time of the coordinator's conversation."""
    found = Clock()
    monkeypatch.setattr("coordinator.strategy.TICK", 2.0)
    for module in ("strategy", "collecting", "greeting", "courier", "asking", "summing", "cancelling"):
        monkeypatch.setattr(f"coordinator.{module}.time", found)
    return found


@pytest.fixture
def make_grid(flower_task: None) -> Callable[..., FakeGrid]:
    """Return a function that makes a Grid whose nodes are a world's sites."""

    def make(world: World, **options: object) -> FakeGrid:
        return FakeGrid({100 + i: site for i, site in enumerate(world.sites.values())}, **options)

    return make
