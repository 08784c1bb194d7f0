"""The viewer: a loopback server of slices and one plain page. Computes nothing that it shows."""
