"""What the gateway answers over HTTP, a module per subject; each gives its router, and `app` joins them."""
