"""A small certificate authority for hosts and callers: offline, in a folder. No part of the daemon."""
