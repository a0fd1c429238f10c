"""libvirt: connections, domains, guest agents, secrets. The only package that imports libvirt."""
