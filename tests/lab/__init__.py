"""The lab: a real Ceph, a real libvirtd and real guests on one machine, for tests, demo and benchmarks."""
