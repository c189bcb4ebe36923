"""What a user could run instead of Strata, one module each, all behind :class:`ops.peers.protocol.Peer`."""
