"""What is well and what is not on a host that runs VMs on Ceph, looked at without the daemon.

`looking` asks libvirt, the guests' agents and the clusters, all at once and each with a bound, and makes what
was `seen`; the judges (`vms`, `keys`, `clusters`) make findings of it, without asking anything; `report` and
`suggest` make what is printed. `adopting` is the one part that changes something.
"""
