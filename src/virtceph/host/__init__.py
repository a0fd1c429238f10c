"""The rules: what may happen when. Plain synchronous code over `virt` and `ceph`."""
