"""The manual pages, made from the contract, the commands' own help texts and the configuration's options:
`python -m virtceph.manpages contrib/man/`."""
