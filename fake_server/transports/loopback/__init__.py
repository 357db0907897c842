"""What the two listeners on loopback share: HTTP/1.1, connections, and a thread with an event loop."""
