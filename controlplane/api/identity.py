"""Who is at the other end of an mTLS connection: the SPIFFE id of its certificate."""

import re
from collections.abc import Iterable, Mapping

from controlplane.core.model import NodeId, RegionId
from controlplane.errors import ForbiddenError

SAN = "x509_subject_alternative_name"
"""gRPC's name for the subject alternative names in an auth context; URIs, DNS names and addresses mixed."""

_NODE = re.compile(r"spiffe://thalweg/region/(?P<region>[^/]+)/node/(?P<node>[^/]+)")


def require_node(
    auth_context: Mapping[str, Iterable[bytes]], node: NodeId, region: RegionId
) -> None:
    """Check that a certificate belongs to this node of this region.

    A SPIFFE certificate carries exactly one URI (X.509-SVID, section 2); with several nothing is believed.
    Raises ForbiddenError ("node-identity").
    """
    names = [name.decode(errors="replace") for name in auth_context.get(SAN, ())]
    uris = [name for name in names if name.startswith("spiffe://")]
    match = _NODE.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None:
        shown = ", ".join(uris) or "no SPIFFE id"
        raise _refused(f"the certificate carries {shown}, which is not one node's")
    if (match["node"], match["region"]) != (node, region):
        raise _refused(
            f"the certificate is that of node {match['node']} in {match['region']},"
            f" the hello speaks for {node} in {region}"
        )


def _refused(detail: str) -> ForbiddenError:
    hint = "start the node with the --node and --region that its certificate was issued for"
    return ForbiddenError("node-identity", detail, hint)
