"""Inside a namespace: be the real hosts, run the commands, and print what each said and what arrived at the hosts.

`listen.py HOSTS` reads a JSON list of commands from standard input. The names in HOSTS are those of an address of this
namespace, at which somebody listens and says nothing: what arrives there has left the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from pytest_claude_tokens.processes import namespace

ADDRESS = "192.0.2.9"
PORTS = (80, 443, 8080)
PATIENCE = 60
_SET_ADDRESS = 0x8916  # SIOCSIFADDR of netdevice(7)


def be_the_hosts(names: list[str], folder: Path) -> None:
    """Give loopback a second address, and have all these names looked up there."""
    namespace.loopback_up()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        fcntl.ioctl(probe, _SET_ADDRESS, struct.pack("16s16s", b"lo:9", address))
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {' '.join(names)}\n", encoding="utf-8")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


class Silent:
    """Listens at each port of the address; takes what it is sent, and answers nothing."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        for port in PORTS:
            listening = socket.create_server((ADDRESS, port))
            threading.Thread(target=self._accept, args=(listening, port), daemon=True).start()

    def _accept(self, listening: socket.socket, port: int) -> None:
        while True:
            client, _ = listening.accept()
            with client:
                client.settimeout(0.2)
                try:
                    data = client.recv(65536)
                except TimeoutError:
                    data = b""
                self.arrived.append(f"{port}: {data[:200]!r}")  # before its client can end


def main() -> None:
    folder, *names = sys.argv[1:]
    be_the_hosts(names, Path(folder))
    silent = Silent()
    told = []
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for command in json.load(sys.stdin):
        silent.arrived.clear()
        null = subprocess.DEVNULL
        done = subprocess.run(
            command, env=clean, stdin=null, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        told.append({"status": done.returncode, "out": done.stdout, "err": done.stderr, "arrived": [*silent.arrived]})
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
