"""How requests arrive and replies leave: in process, over loopback sockets, through a TLS proxy.

Each transport takes requests through the same exchange and knows how to wait; none decides what a reply says.
"""
