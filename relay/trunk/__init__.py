"""Links to other nodes: signalled over gRPC, carried by SRTP, repairing their own loss."""
