"""What tenants have kept of their conversations: redaction, retention, recordings; one file says it for all of them."""
