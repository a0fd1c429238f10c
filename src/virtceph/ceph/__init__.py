"""Ceph: clusters, images, snapshots, worker processes. The only package that imports rados and rbd."""
