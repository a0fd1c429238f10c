"""One plain function per verb. The contract says how each is called; the registry joins the two."""
