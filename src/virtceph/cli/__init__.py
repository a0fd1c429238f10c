"""The `virtceph` command: any verb by hand, in the manner of `vdsm-client`."""
