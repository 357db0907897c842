"""The parts that both loopback listeners share: HTTP/1.1, connections, and a thread with an event loop.

It knows no TLS and no command line, and leaves requests that are not for the service to a local handler.
"""
