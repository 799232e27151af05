"""A campaign's rules in plain words: what an operator reads before saying yes."""

from __future__ import annotations

from protos import code, signing
from protos.campaign import Campaign
from protos.rules import MEASURED, SECURE_SUM
from protos.securesum.agreement import NONCE_BYTES, Agreement

_PRIVACY = {
    "sealed": "updates are encrypted to the coordinator, which reads each of them",
    "secure-sum": "the coordinator learns the sums, and nothing about a single site",
}


_AT_DEADLINE = {
    "merge": "who has delivered by then is merged, if the quorum is met",
    "fail": "if a member has not delivered by then, nothing is merged",
    "wait": "if the quorum is not met by then, it is waited for",
}
_BUFFERS = {
    "pooled": "statistics pooled over the members' updates",
    "own": "the statistics of this site's own update",
    "recalibrated": "statistics that this site measures for it on its own images; they stay here",
    "pooled-recalibrated": "statistics that the members measure for it on their own images, pooled",
    "routed": "every member's measured statistics, among which it chooses for each image",
}
_SEEN = {
    "pooled-recalibrated": "the coordinator sees these",
    "routed": "the coordinator and all members see these",
}


def rules(campaign: Campaign, site: str) -> list[tuple[str, str]]:
    """Say what a campaign is and what it asks of a site: pairs of a word and a sentence."""
    said, message = campaign.rules, campaign.message
    found = [
        ("campaign", campaign.name),
        ("digest", campaign.digest.hex()),
        ("base", f"{message.base_digest.hex()} ({message.model}, {message.classes} classes)"),
        ("members", ", ".join(_member(campaign, name) for name in campaign.sites)),
        ("quorum", f"{said.minimum_sites} of {len(campaign.sites)} sites must deliver, or nothing is merged"),
        ("deadline", f"{_duration(said.deadline_seconds)} from its first run; {_AT_DEADLINE[said.at_deadline]}"),
        ("patience", f"a site that is silent for {_duration(said.patience_seconds)} is given up"),
        ("sends", f"once: {_sent(campaign, site)}"),
        ("privacy", f"{said.privacy}: {_PRIVACY[said.privacy]}{_unless(campaign)}"),
        ("code", _code(said.code_digest)),
    ]
    if said.required:
        found.append(("required", f"without {', '.join(said.required)} nothing is merged"))
    if said.weighing == "members":
        found.append(
            ("weighing", "in the mid-point each member counts once, however many sites a region stands for")
        )
    elif campaign.regions:
        found.append(("weighing", "in the mid-point each site counts once, a region as many as it stands for"))
    if said.send_on:
        found.append(
            ("sent on", "the sum of all updates may go to a coordinator above this one, to be merged there")
        )
    if said.compare_single_models:
        found.append(("note", "other members get to see this site's model (compare_single_models)"))
    if said.evaluate and site not in campaign.regions:
        found.append(
            ("scores", "the merged model is judged on this site's held-out images; counts of pixels leave")
        )
    if said.deliver:
        found.append(("gets", f"the merged model, with {_BUFFERS[said.buffers]}"))
    if said.buffers in MEASURED:
        found.append(("measures", f"the merged model's statistics on its own images; {_SEEN[said.buffers]}"))
    return found


def leaves(campaign: Campaign, address: str, site: str) -> list[str]:
    """Say all that leaves a site in a campaign, and to whom: one sentence each."""
    said = campaign.rules
    whom = f"the coordinator at {address} ({signing.fingerprint(campaign.message.coordinator_key)})"
    found = [
        f"The update below goes to {whom}, and to nobody else.",
        "In answer to its questions: this site's name, Flower's number of its node, the campaign's and the base's "
        "digests, and a nonce; how far adapting is (state, phase, step, steps, time left); the number of a reason "
        "if something is refused.",
    ]
    if said.privacy == SECURE_SUM:
        found[0] = (
            f"The update below is masked before it leaves: {whom} gets numbers that look like noise, and learns "
            f"their sum over {said.minimum_sites} sites at least. It learns nothing else of them"
            f"{_unless(campaign)}."
        )
        found.insert(
            1,
            "Beside it: keys that are made for this sum alone, shares of two secrets, each encrypted to another "
            "member, and signatures for who takes part.",
        )
    if site in campaign.regions:
        found[0] = (
            f"The update below goes to {whom}, and to nobody else: sums over this region's sites, how many "
            "they are, and for each a token that only who knows the site's public key can tell. No site's name or "
            "model is in it."
        )
    if said.send_on:
        found.append("After the merge: the sum of all updates may go from the coordinator to one above it.")
    if said.compare_single_models:
        found[0] = f"The update below goes to {whom}, and from there this site's model to the other members."
    if said.buffers in MEASURED:
        found.append(
            "After the merge: the merged model's BatchNorm means, variances and batch counts on this site's own "
            f"images; {_SEEN[said.buffers]}."
        )
    if said.evaluate and site not in campaign.regions:
        found.append(
            "After the merge: confusion matrices of held-out images (counts of pixels), and how many they are."
        )
    found.append("What the merged model itself tells about this site's images is not protected by any of this.")
    return found


def _member(campaign: Campaign, name: str) -> str:
    found = f"{name} ({signing.fingerprint(campaign.keys[name])})"
    if name not in campaign.regions:
        return found
    whose = signing.fingerprint(campaign.regions[name])
    return f"{found}, a region of up to {campaign.rules.most_sites} sites whose coordinator is {whose}"


def _sent(campaign: Campaign, site: str) -> str:
    if site in campaign.regions:
        return f"sums of its sites' parameters and BatchNorm statistics ({campaign.rules.copy}), signed by {site}"
    return f"the {campaign.rules.copy}'s parameters and BatchNorm statistics, signed by site {site}"


def _unless(campaign: Campaign) -> str:
    """Say how many members a secure sum withstands; nothing in another mode."""
    if campaign.rules.privacy != SECURE_SUM:
        return ""
    most = Agreement.of(campaign, bytes(NONCE_BYTES)).tolerated
    return f", unless more than {most} other member{'' if most == 1 else 's'} side with the coordinator"


def _code(digest: str) -> str:
    if not digest:
        return "no digest: this site's SuperNode will run none"
    same = digest == code.installed_digest()
    return f"{digest}, {'that' if same else 'NOT that'} of the onebasin installed here"


def _duration(seconds: int) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds} seconds"
