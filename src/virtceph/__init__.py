"""virtceph: a host agent for KVM hosts whose VM disks live in Ceph RBD."""

__version__ = "0.1.0"
