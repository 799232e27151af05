"""A site's policy: which campaigns it takes part in, whatever anybody accepts. It never leaves the site."""

from __future__ import annotations

from dataclasses import dataclass

from protos import signing
from protos.campaign import Campaign
from protos.errors import ConfigurationError, PolicyError
from protos.rules import PRIVACY, SECURE_SUM

_STRENGTH = {name: place for place, name in enumerate(PRIVACY)}


@dataclass(frozen=True)
class Policy:
    """The table ``[policy]`` of ``site.toml``. By itself it forbids nothing: each campaign is accepted by hand.

    Raises:
        ConfigurationError: A value makes no sense.

    """

    weakest_privacy: str = "sealed"
    """``sealed`` or ``secure-sum``: campaigns of a weaker mode are forbidden."""
    fewest_sites: int = 1
    """A merge of fewer updates than this is forbidden: the fewer there are, the more it says of each."""
    members: tuple[str, ...] = ()
    """Names or fingerprints of the sites that may take part beside this one; none: any."""
    compare_single_models: bool = True
    """Whether this site's model may travel to other sites, to be compared there."""
    counts_in_clear: bool = True
    """Whether the coordinator may see this site's BatchNorm counts, which tell how many batches it trained on."""

    def __post_init__(self) -> None:
        if self.weakest_privacy not in PRIVACY:
            raise ConfigurationError(
                f"policy: weakest_privacy = {self.weakest_privacy!r} is no privacy mode",
                f"known: {', '.join(PRIVACY)}",
            )
        if self.fewest_sites < 1:
            raise ConfigurationError("policy: fewest_sites must be at least 1", "1 forbids nothing")

    def check(self, campaign: Campaign, site: str) -> None:
        """Make sure that a campaign keeps to this policy.

        Args:
            campaign: The campaign.
            site: The site whose policy this is.

        Raises:
            PolicyError: It doesn't; names the campaign's rule and the key in ``site.toml``.

        """
        rules = campaign.rules
        if _STRENGTH[rules.privacy] < _STRENGTH[self.weakest_privacy]:
            self._forbid(campaign, site, f"runs with privacy {rules.privacy!r}", "weakest_privacy")
        if rules.minimum_sites < self.fewest_sites:
            self._forbid(campaign, site, f"merges as few as {rules.minimum_sites} sites", "fewest_sites")
        for name, key in campaign.keys.items():
            if self.members and name != site and not self._knows(name, key):
                self._forbid(campaign, site, f"has a member {name} ({signing.fingerprint(key)})", "members")
        if rules.compare_single_models and not self.compare_single_models:
            said = "shows single sites' models to the others (compare_single_models)"
            self._forbid(campaign, site, said, "compare_single_models")
        if rules.privacy != SECURE_SUM and not self.counts_in_clear:
            said = f"lets the coordinator see BatchNorm counts, as any but {SECURE_SUM!r} does"
            self._forbid(campaign, site, said, "counts_in_clear")

    def _knows(self, name: str, key: bytes) -> bool:
        return any(known == name or signing.is_fingerprint(known, key) for known in self.members)

    def _forbid(self, campaign: Campaign, site: str, said: str, key: str) -> None:
        value = getattr(self, key)
        shown = (
            str(value).lower() if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value
        )
        raise PolicyError(
            f"campaign {campaign.name} {said}, which the policy of site {site} forbids ({key} = {shown!r})",
            f"ask the coordinator for other rules, or change {key} under [policy] in site.toml",
        )
