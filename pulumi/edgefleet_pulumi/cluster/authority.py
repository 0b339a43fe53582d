"""The site's certificate authority: one Secret of the site, which systems' certificates are signed with.

It is replaced in three steps, with time for the devices between them, so that at no moment a device is shown a
certificate that it can't check:

1. `announce`: the next one is made. Systems' `ca.crt` holds both, and goes to the devices; the old one signs.
2. `switch`: the next one signs. `ca.crt` still holds both.
3. `finish`: the old one is forgotten.

    python -m edgefleet_pulumi.cluster.authority announce [--context NAME]

After each step `pulumi up` of every system brings its certificate and its `ca.crt` to what is wanted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from edgefleet_pulumi.cluster import certificates, objects
from edgefleet_pulumi.cluster.api import Api, ApiError
from edgefleet_pulumi.cluster.certificates import Pair
from edgefleet_pulumi.cluster.objects import MADE_BY, Cluster

# It belongs to the site and to no stack: systems come and go, devices go on trusting it.
SITE_NAMESPACE, SITE_CA = "edgefleet-site", "site-ca"
# Keys of the Secret beside the signer's own: the next one, and the certificate alone of the one before.
NEXT_CERTIFICATE, NEXT_KEY, BEFORE = "next.crt", "next.key", "before.crt"


class StepError(Exception):
    """A step that does not follow from where the rotation stands."""


def _content(cluster: Cluster) -> dict[str, str]:
    return objects.content(cluster, SITE_NAMESPACE, SITE_CA)


def _have(cluster: Cluster, wanted: Mapping[str, str]) -> None:
    objects.have(cluster, SITE_NAMESPACE, SITE_CA, "kubernetes.io/tls", wanted)


def signer(cluster: Cluster) -> Pair:
    """What certificates are signed with, made when there is none."""
    present = _content(cluster)
    if present:
        return Pair(present["tls.crt"], present["tls.key"])
    if cluster.get(f"/api/v1/namespaces/{SITE_NAMESPACE}") is None:
        labelled = {**MADE_BY, "pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": SITE_NAMESPACE, "labels": labelled}
        cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    made = certificates.authority()
    _have(cluster, {"tls.crt": made.certificate, "tls.key": made.key})
    return made


def trusted(cluster: Cluster) -> str:
    """What devices are to trust: the signer, and during a rotation the other one, too."""
    present = _content(cluster)
    return "".join(present[key] for key in ("tls.crt", NEXT_CERTIFICATE, BEFORE) if key in present)


def announce(cluster: Cluster) -> str:
    """Make the next one. Nothing is signed with it yet."""
    present = _content(cluster)
    if not present:
        raise StepError("there is no site CA to rotate yet: the first `pulumi up` of a system makes one")
    if BEFORE in present:
        raise StepError("the rotation before has not ended: `finish` it first, when all devices trust the present one")
    if NEXT_CERTIFICATE not in present:
        made = certificates.authority()
        _have(cluster, {**present, NEXT_CERTIFICATE: made.certificate, NEXT_KEY: made.key})
    return "announced: run `pulumi up` of every system, bring their new ca.crt to all devices, then `switch`"


def switch(cluster: Cluster) -> str:
    """Sign with the next one from now on."""
    present = _content(cluster)
    if NEXT_CERTIFICATE in present:
        wanted = {"tls.crt": present[NEXT_CERTIFICATE], "tls.key": present[NEXT_KEY], BEFORE: present["tls.crt"]}
        _have(cluster, wanted)
    elif BEFORE not in present:
        raise StepError("there is no next one to switch to: `announce` it first, and bring it to the devices")
    return "switched: run `pulumi up` of every system, see that the new certificates are served, then `finish`"


def finish(cluster: Cluster) -> str:
    """Forget the one before."""
    present = _content(cluster)
    if NEXT_CERTIFICATE in present:
        raise StepError("the next one does not sign yet: `switch` first, when all devices trust it")
    if BEFORE in present:
        _have(cluster, {key: present[key] for key in ("tls.crt", "tls.key")})
    return "finished: run `pulumi up` of every system, and take the old certificate from the devices"


STEPS: dict[str, Callable[[Cluster], str]] = {"announce": announce, "switch": switch, "finish": finish}


def main() -> int:
    """The command line; 1 with one sentence where a step can't be taken."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="authority", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--context", help="the context of the kubeconfig (KUBECONFIG); its current one if not given")
    given = parser.parse_args()
    try:
        print(STEPS[given.step](Api.of(given.context)))
    except (StepError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
