"""A coordinator wants to know one site's update: it lies, plays back, swaps, forges; and looks at the bytes."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protos import dtypes, fixedpoint, signing
from protos import securesum_pb2 as pb
from protos.errors import OnebasinError, SecureSumError, SignatureError
from protos.manifest import Manifest, TensorSpec
from protos.securesum import coordinator as collecting
from protos.securesum import keys, keystream, memory, sharing
from protos.securesum.keys import Secrets
from protos.securesum.keystream import Mask
from protos.securesum.layout import layout
from protos.securesum.messages import hear, say
from protos.securesum.site import Advertised, Confirmed, Masked, Revealed, Shared, pair_sign

SITES = ("site-0", "site-1", "site-2", "site-3")
VICTIM = "site-0"


@pytest.fixture
def found(secure_sum):
    return secure_sum(4)


def advertised(found, sites=SITES):
    return {site: found.begin(site) for site in sites}


def roster_of(said):
    return pb.Roster(keys=[pb.Said(site=site, envelope=said[site]) for site in sorted(said)])


def all_masked(found):
    """Let all sites mask, honestly; return the coordinator's state."""
    state, deliveries = found.masking(*found.sharing(found.agreement.sites), found.agreement.sites)
    for site in found.agreement.sites:
        state = state.take(site, found.mask(site, deliveries[site])[0], found.layout)
    return state


def confirmations_of(said):
    return pb.Confirmations(confirmations=[pb.Said(site=site, envelope=said[site]) for site in sorted(said)])


# ------------------------------------------------------- lies about the sets


def test_two_rosters_are_noticed_before_anything_is_masked(found):
    """The coordinator hides a member from some sites."""
    said = advertised(found)
    short = {site: said[site] for site in SITES[:3]}
    shares = {site: found.share(site, roster_of(short if site == VICTIM else said)) for site in SITES}
    heard = {site: hear(shares[site], pb.Shares, found.agreement, site) for site in SITES}
    delivery = pb.Delivery()
    for site in SITES[1:3]:
        (content,) = [sealed.content for sealed in heard[site].sealed if sealed.site == VICTIM]
        delivery.sealed.add(site=site, content=content)
    with pytest.raises(SecureSumError, match="told different rosters"):
        found.mask(VICTIM, delivery)
    assert isinstance(memory.load(found.states[VICTIM]), Shared)


def test_two_sets_of_sharers_are_noticed_before_anything_is_revealed(found):
    """The coordinator withholds one site's shares from the victim, so that its masks are others than it says."""
    state, deliveries = found.masking(*found.sharing(SITES), SITES)
    del deliveries[VICTIM].sealed[-1]
    with pytest.raises(SecureSumError, match="masked its values for other sites"):
        state.take(VICTIM, found.mask(VICTIM, deliveries[VICTIM])[0], found.layout)
    for site in SITES[1:]:
        found.mask(site, deliveries[site])
    survivors = pb.Survivors(sites=SITES[:3])
    said = {site: found.confirm(site, survivors) for site in SITES[:3]}
    for site in SITES[:3]:
        with pytest.raises(SecureSumError, match="was told other survivors"):
            found.reveal(site, confirmations_of(said))


def test_two_sets_of_survivors_are_noticed_before_anything_is_revealed(found):
    """To some the victim survived, to others it dropped out: its seed from these, its mask key from those."""
    all_masked(found)
    stories = {site: SITES[:3] if site == VICTIM else SITES for site in SITES[:3]} | {"site-3": SITES}
    said = {site: found.confirm(site, pb.Survivors(sites=stories[site])) for site in SITES}
    for site in SITES:
        with pytest.raises(SecureSumError, match="was told other survivors than"):
            found.reveal(site, confirmations_of(said))
        fitting = {other: said[other] for other in SITES if stories[other] == stories[site]}
        if len(fitting) < found.agreement.threshold:
            with pytest.raises(SecureSumError, match="nothing was revealed"):
                found.reveal(site, confirmations_of(fitting))
    assert not any(isinstance(memory.load(found.states[site]), Revealed) for site in SITES)


def seen_with_two_stories(found, colluding):
    """Split the honest sites between two stories about the victim; return the shares that honest sites reveal.

    Colluding sites confirm both stories, as only they can. Every honest site in turn is told that it survived.
    """
    all_masked(found)
    sites = found.agreement.sites
    honest = [site for site in sites if site not in colluding]
    others = [site for site in honest if site != VICTIM]
    secret = {site: found.states[site] for site in colluding}
    best = set()
    for size in range(len(others) + 1):
        for with_victim in itertools.combinations(others, size):
            first = sorted({VICTIM, *with_victim, *colluding})
            second = sorted({*others, *colluding} - set(with_victim))
            before, shares = dict(found.states), set()
            for story in (first, second):
                said = {}
                for site in story:
                    found.states[site] = secret.get(site, found.states[site])
                    try:
                        said[site] = found.confirm(site, pb.Survivors(sites=story))
                    except SecureSumError:
                        break
                for site in set(said) - set(colluding):
                    try:
                        message = hear(
                            found.reveal(site, confirmations_of(said)), pb.Reveal, found.agreement, site
                        )
                    except SecureSumError:
                        continue
                    shares |= {("seed", site) for share in message.seeds if share.site == VICTIM}
                    shares |= {("key", site) for share in message.mask_keys if share.site == VICTIM}
            found.states = before
            if {kind for kind, _ in shares} == {"seed", "key"}:
                best |= shares
    return best


@pytest.mark.parametrize(("count", "threshold"), [(3, 3), (4, 3), (5, 4), (5, 3), (6, 5)])
def test_no_split_of_the_sites_yields_both_secrets_while_collusion_is_tolerated(secure_sum, count, threshold):
    found = secure_sum(count, threshold)
    colluding = found.agreement.sites[count - found.agreement.tolerated :]
    assert not seen_with_two_stories(found, colluding)


@pytest.mark.parametrize(("count", "threshold"), [(3, 2), (4, 3), (5, 4), (5, 3), (6, 5)])
def test_with_one_colluding_site_more_there_is_such_a_split(secure_sum, count, threshold):
    """So the search above can find one."""
    found = secure_sum(count, threshold)
    colluding = found.agreement.sites[count - found.agreement.tolerated - 1 :]
    assert {kind for kind, _ in seen_with_two_stories(found, colluding)} == {"seed", "key"}


def test_the_bound_on_collusion_is_sharp(secure_sum):
    """One colluding site more than is tolerated: with 2 of 3 the coordinator does get the victim's model."""
    found = secure_sum(3, 2)
    assert found.agreement.tolerated == 0
    masking = all_masked(found)
    _, words = found.masked(VICTIM)
    secret = found.at("site-2", Masked)
    revealed = {}
    for story in ((VICTIM, "site-2"), ("site-1", "site-2")):
        found.states["site-2"] = memory.dump(secret)
        said = {site: found.confirm(site, pb.Survivors(sites=story)) for site in story}
        envelope = found.reveal(story[0], confirmations_of(said))
        revealed[story[0]] = hear(envelope, pb.Reveal, found.agreement, story[0])
    held, roster, sites = secret.held[VICTIM], masking.roster, found.agreement.sites
    seed_shares = {VICTIM: revealed[VICTIM].seeds[0].share, "site-2": held.seed}
    key_shares = {"site-1": revealed["site-1"].mask_keys[0].share, "site-2": held.mask_key}
    seed = sharing.combine(seed_shares, 2, sites, lambda _: True, "")
    private = sharing.combine(key_shares, 2, sites, lambda _: True, "")
    masks = [-Mask(keys.self_mask(seed, roster.digest, VICTIM), 1)]
    for site in sites[1:]:
        pair = keys.pair_mask(private, roster.keys[site].mask_key, roster.digest, (VICTIM, site))
        masks.append(-Mask(pair, pair_sign(VICTIM, site)))
    assert (unmasked(found, words, masks) == plain(found)).all()


# ----------------------------------------------------- both secrets, replays


def test_both_shares_of_one_site_are_never_given(found):
    """First the victim survived; then it is said to have dropped out, in every way that there is."""
    confirming, survivors = all_masked(found).close()
    _, confirmations = found.revealing(confirming, survivors, SITES)
    without = pb.Survivors(sites=SITES[1:])
    with pytest.raises(SecureSumError, match="stage confirmed of this secure sum, not masked"):
        found.confirm("site-1", without)
    message = hear(found.reveal("site-1", confirmations), pb.Reveal, found.agreement, "site-1")
    seeds, mask_keys = ({share.site for share in part} for part in (message.seeds, message.mask_keys))
    assert not seeds & mask_keys
    for again in (
        lambda: found.confirm("site-1", without),
        lambda: found.reveal("site-1", confirmations),
        lambda: found.share("site-1", roster_of({})),
    ):
        with pytest.raises(SecureSumError, match="stage revealed"):
            again()


def test_a_site_that_is_said_to_have_dropped_out_helps_nobody(found):
    all_masked(found)
    with pytest.raises(SecureSumError, match="this site is said to have dropped out"):
        found.confirm(VICTIM, pb.Survivors(sites=SITES[1:]))


def test_messages_of_an_earlier_attempt_are_of_no_use(found, secure_sum):
    confirming, survivors = all_masked(found).close()
    old = {site: found.confirm(site, survivors) for site in SITES}
    later = secure_sum(4, nonce=b"later than before"[:16])
    with pytest.raises(SecureSumError, match="is of secure sum"):
        later.begin(VICTIM) and later.share(VICTIM, roster_of(advertised(found)))
    all_masked(later)
    for site in SITES:
        later.confirm(site, survivors)
    with pytest.raises(SecureSumError, match="is of secure sum"):
        later.reveal(VICTIM, confirmations_of(old))
    assert confirming.agreement.digest != later.agreement.digest


def test_a_request_of_another_sum_is_refused(found, secure_sum):
    found.begin(VICTIM)
    other = secure_sum(4, nonce=b"x" * 16).agreement
    with pytest.raises(SecureSumError, match="another secure sum"):
        memory.expect(memory.load(found.states[VICTIM]), Advertised, other)


# ------------------------------------------------------- shares that are swapped


@pytest.mark.parametrize("how", ["senders", "receivers", "repeated", "own", "emptied", "a stranger's"])
def test_swapped_shares_open_nowhere(found, how):
    _, deliveries = found.masking(*found.sharing(SITES), SITES)
    delivery, other = deliveries[VICTIM], deliveries["site-1"]
    first, second = delivery.sealed[0], delivery.sealed[1]
    match how:
        case "senders":
            first.content, second.content = second.content, first.content
        case "receivers":
            first.content = next(s.content for s in deliveries["site-2"].sealed if s.site == first.site)
        case "repeated":
            second.CopyFrom(first)
        case "own":
            delivery.sealed.insert(0, pb.Sealed(site=VICTIM, content=other.sealed[0].content))
        case "emptied":
            first.content = b""
        case _:
            delivery.sealed.add(site="zebra", content=first.content)
    with pytest.raises(SecureSumError):
        found.mask(VICTIM, delivery)
    assert isinstance(memory.load(found.states[VICTIM]), Shared)


# -------------------------------------------------------------- forged rosters


def forged(found, site, key, **changes):
    """Return keys that the coordinator made up, or changed, signed with some key."""
    fresh = {
        name: X25519PrivateKey.generate().public_key().public_bytes_raw() for name in ("mask_key", "share_key")
    }
    fields = {"agreement": found.agreement.digest, "site": site, "commitment": b"c" * 32, **fresh, **changes}
    return say(pb.Keys(**fields), key)


STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


def test_keys_that_the_coordinator_made_up_for_a_member_are_refused(found):
    said = advertised(found)
    for key in (STRANGER, found.keys["site-2"]):
        with pytest.raises(SignatureError, match="site-1"):
            found.share(VICTIM, roster_of(said | {"site-1": forged(found, "site-1", key)}))


ROSTERS = {
    "an invented member": lambda f, said: said | {"zebra": forged(f, "zebra", STRANGER)},
    "a member under another name": lambda f, said: said | {"site-1": said["site-2"]},
    "the victim left out": lambda f, said: {s: e for s, e in said.items() if s != VICTIM},
    "too few": lambda f, said: {s: said[s] for s in SITES[:2]},
    "nobody": lambda f, said: {},
    "the victim's keys of another time": lambda f, said: said | {VICTIM: forged(f, VICTIM, f.keys[VICTIM])},
    "a key that two share": lambda f, said: (
        said | {"site-1": forged(f, "site-1", f.keys["site-1"], mask_key=mask_key(f, said, "site-2"))}
    ),
    "the victim's own key": lambda f, said: (
        said | {"site-1": forged(f, "site-1", f.keys["site-1"], share_key=mask_key(f, said, VICTIM))}
    ),
    "a key of low order": lambda f, said: (
        said | {"site-1": forged(f, "site-1", f.keys["site-1"], share_key=bytes(32))}
    ),
    "no signature": lambda f, said: said | {"site-1": signing.pb.Signed(payload=said["site-1"].payload)},
    "a confirmation": lambda f, said: (
        said | {"site-1": say(pb.Confirmation(agreement=f.agreement.digest, site="site-1"), f.keys["site-1"])}
    ),
}


def mask_key(found, said, site):
    return hear(said[site], pb.Keys, found.agreement, site).mask_key


@pytest.mark.parametrize("forge", ROSTERS.values(), ids=ROSTERS)
def test_a_forged_roster_is_refused(found, forge):
    said = advertised(found)
    with pytest.raises(OnebasinError):
        found.share(VICTIM, roster_of(forge(found, said)))
    assert isinstance(memory.load(found.states[VICTIM]), Advertised)


def test_a_roster_in_another_order_or_with_one_twice_is_refused(found):
    said = list(roster_of(advertised(found)).keys)
    for listed in (said[::-1], [*said, said[-1]]):
        with pytest.raises(SecureSumError, match="twice or out of order"):
            found.share(VICTIM, pb.Roster(keys=listed))


# -------------------------------------------------------------- below the threshold


def test_below_the_threshold_no_stage_goes_on(found):
    said = advertised(found)
    with pytest.raises(SecureSumError, match="only 2 of 4"):
        found.share(VICTIM, roster_of({site: said[site] for site in SITES[:2]}))
    shares = {site: found.share(site, roster_of(said)) for site in SITES}
    state = collecting.Sharing(found.agreement, found.at(VICTIM, Shared).roster)
    for site in SITES:
        state = state.take(site, shares[site])
    masking, deliveries = state.close()
    few = pb.Delivery(sealed=deliveries[VICTIM].sealed[:1])
    with pytest.raises(SecureSumError, match="only 2 of 4"):
        found.mask(VICTIM, few)
    for site in SITES:
        masking = masking.take(site, found.mask(site, deliveries[site])[0], found.layout)
    with pytest.raises(SecureSumError, match="only 2 of 4"):
        found.confirm(VICTIM, pb.Survivors(sites=SITES[:2]))
    _, survivors = masking.close()
    confirmed = {site: found.confirm(site, survivors) for site in SITES}
    few = confirmations_of({site: confirmed[site] for site in SITES[:2]})
    with pytest.raises(SecureSumError, match="only 2 of 4"):
        found.reveal(VICTIM, few)
    twice = pb.Confirmations(confirmations=[*few.confirmations, few.confirmations[0]])
    with pytest.raises(SecureSumError, match="twice or out of order"):
        found.reveal(VICTIM, twice)
    assert isinstance(memory.load(found.states[VICTIM]), Confirmed)


# ------------------------------------------- one site's bytes look like noise

WEIGHTS, CHANNELS = 40_000, 2_000
BIG = Manifest(
    {
        "w": TensorSpec(dtypes.FLOAT32, (WEIGHTS,)),
        "bn.running_mean": TensorSpec(dtypes.FLOAT32, (CHANNELS,)),
        "bn.running_var": TensorSpec(dtypes.FLOAT32, (CHANNELS,)),
        "bn.num_batches_tracked": TensorSpec(dtypes.INT64, ()),
    }
)


def chi_square(words: np.ndarray) -> float:
    """Return Pearson's statistic of the bytes' values against all 256 alike: 255 on average, ± 23 in noise."""
    seen = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    return float(((seen - expected) ** 2).sum() / expected)


def looks_like_noise(words: dict[str, np.ndarray]) -> bool:
    """Test bytes at each place in a number for itself, seven standard deviations wide; all seeds are fixed."""
    vectors = layout(BIG)
    found = []
    for key in ("sum:w", "mean:bn", "square:bn"):
        numbers = words[key].view(np.uint8).reshape(-1, 8 * vectors[key].width)
        found += [chi_square(np.ascontiguousarray(column)) for column in numbers.T]
    return all(95 < value < 415 for value in found)


@pytest.fixture(scope="module")
def noisy(secure_sum):
    """A sum of four whose secrets are fixed, so that masks are the same each time; all have masked."""
    models = {}
    for i, site in enumerate(SITES):
        dice = np.random.default_rng(i)
        models[site] = {
            "w": dice.normal(size=WEIGHTS).astype(np.float32) * np.float32(0.05),
            "bn.running_mean": dice.normal(size=CHANNELS).astype(np.float32),
            "bn.running_var": dice.gamma(2, size=CHANNELS).astype(np.float32),
            "bn.num_batches_tracked": np.asarray(4000 + i, np.int64),
        }
    found = secure_sum(models)

    def begin(site):
        drawn = (hashlib.sha256(f"{site} {what}".encode()).digest() for what in ("mask", "share", "seed"))
        state = Advertised(found.agreement, site, (), Secrets(*drawn))
        own = state.secrets
        said = pb.Keys(
            agreement=found.agreement.digest,
            site=site,
            mask_key=keys.public(own.mask_key),
            share_key=keys.public(own.share_key),
            commitment=keys.commitment(own.seed, found.agreement.digest, site),
        )
        return found.keep(site, (state, say(said, found.keys[site])))

    found.begin = begin
    all_masked(found)
    return found


def masks_of(found, site):
    """Return a site's masks by whom it shares them with; its own by its name."""
    own, *pairs = found.at(site, Masked)._masks()
    return {site: own} | dict(zip([other for other in SITES if other != site], pairs, strict=True))


def unmasked(found, words, masks):
    """Apply masks to a copy of masked values; return a parameter's, or all if there is no such one."""
    result = {key: value.copy() for key, value in words.items()}
    for key, vector in found.layout.items():
        keystream.apply(masks, vector, 0, result[key])
    return result if "sum:w" in result else result["sum:stem.weight"].view(np.int64)


def plain(found):
    return fixedpoint.quantise(found.models[VICTIM]["stem.weight"].reshape(-1))


def masked_with(found, site, left_out=()):
    """Mask a site's model as it does, but leave some masks out."""
    _, words = found.masked(site)
    return unmasked(found, words, [-masks_of(found, site)[other] for other in left_out])


def test_a_masked_update_is_noise(noisy):
    assert looks_like_noise(masked_with(noisy, VICTIM))


def test_the_check_tells_noise_from_a_plain_update(noisy):
    assert not looks_like_noise(masked_with(noisy, VICTIM, left_out=SITES))


def known_to_the_coordinator(found, site, survivors):
    """Return whose masks with a site the coordinator learns in the end: those that stay in the sum."""
    if site in survivors:
        return {site} | {other for other in SITES if other not in survivors}
    return {other for other in SITES if other != site}


@pytest.mark.parametrize("site", [VICTIM, "site-2"])
@pytest.mark.parametrize("survivors", [SITES, SITES[:3], SITES[1:]])
def test_an_update_is_noise_even_after_all_is_revealed(noisy, survivors, site):
    """For a survivor its seed is known; for one that dropped out, but whose values came late, its mask key."""
    known = known_to_the_coordinator(noisy, site, survivors)
    assert looks_like_noise(masked_with(noisy, site, left_out=known))


@pytest.mark.parametrize("needed", SITES)
def test_the_last_mask_that_nobody_knows_is_enough_and_the_check_fails_without_it(noisy, needed):
    """All masks but one are known, as with as many colluding sites as there can be. Every mask does its part."""
    known = set(SITES) - {needed}
    assert looks_like_noise(masked_with(noisy, VICTIM, left_out=known))
    assert not looks_like_noise(masked_with(noisy, VICTIM, left_out={*known, needed}))


def test_a_site_that_left_its_own_mask_out_would_be_found_out_when_its_values_come_late(noisy):
    known = known_to_the_coordinator(noisy, VICTIM, SITES[1:])
    assert not looks_like_noise(masked_with(noisy, VICTIM, left_out={*known, VICTIM}))


def test_the_sum_itself_is_no_noise(noisy):
    """The masks do cancel: or nothing above would mean anything."""
    total = {key: np.zeros(vector.words, np.uint64) for key, vector in noisy.layout.items()}
    for site in SITES:
        words = masked_with(noisy, site, left_out={site})
        total["sum:w"] += words["sum:w"]
    wanted = sum(fixedpoint.quantise(noisy.models[site]["w"]) for site in SITES)
    np.testing.assert_array_equal(total["sum:w"].view(np.int64), wanted)


# ------------------------------------------------------------ malformed bytes

ROUNDS = 3000


def test_damaged_requests_are_refused_and_leave_the_site_as_it_was(secure_sum, mutations):
    """What the coordinator sends, changed anywhere: nothing is signed or sealed for it but the whole."""
    found = secure_sum(4, 4)  # all are needed: a request without one of them is in order otherwise
    state, roster = found.sharing(SITES)
    before = dict(found.states)

    def attack(request, answer, seed):
        for content in mutations(request.SerializeToString(deterministic=True), ROUNDS, seed):
            found.states = dict(before)
            with pytest.raises(OnebasinError):
                answer(VICTIM, signing.decode(content, type(request), "the coordinator"))
            assert found.states == before
        found.states = dict(before)

    attack(roster, found.share, 1)
    masking, deliveries = found.masking(state, roster, SITES)
    before = dict(found.states)
    attack(deliveries[VICTIM], found.mask, 2)
    for site in SITES:
        masking = masking.take(site, found.mask(site, deliveries[site])[0], found.layout)
    confirming, survivors = masking.close()
    _, confirmations = found.revealing(confirming, survivors, SITES)
    before = dict(found.states)
    attack(confirmations, found.reveal, 3)


def test_damaged_answers_are_refused_even_when_they_are_signed(found, mutations):
    """The site itself signs each mutation. What is taken says the same, or differs in keys, which are its own."""
    state = collecting.Advertising(found.agreement)
    envelope = found.begin(VICTIM)
    for content in mutations(envelope.payload, ROUNDS, 4):
        try:
            taken = state.take(VICTIM, signing.sign(envelope.purpose, content, found.keys[VICTIM]))
        except OnebasinError:
            continue
        message = pb.Keys.FromString(taken.said[VICTIM].payload)
        assert (message.agreement, message.site) == (found.agreement.digest, VICTIM)
    sharing_state, roster = found.sharing(SITES)
    envelope = found.share(VICTIM, roster)
    for content in mutations(envelope.payload, ROUNDS, 5):
        try:
            taken = sharing_state.take(VICTIM, signing.sign(envelope.purpose, content, found.keys[VICTIM]))
        except OnebasinError:
            continue
        assert set(taken.sealed[VICTIM]) == set(SITES[1:])
    for site in SITES[1:]:
        sharing_state = sharing_state.take(site, found.share(site, roster))
    masking, deliveries = sharing_state.take(VICTIM, envelope).close()
    envelope, _ = found.mask(VICTIM, deliveries[VICTIM])
    for content in mutations(envelope.payload, ROUNDS, 6):
        try:
            taken = masking.take(VICTIM, signing.sign(envelope.purpose, content, found.keys[VICTIM]), found.layout)
        except OnebasinError:
            continue
        assert [vector.key for vector in taken.arrived[VICTIM].vectors] == list(found.layout)
