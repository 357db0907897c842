"""The ways into the service. Each carries requests through the same exchange, and knows how to wait."""
