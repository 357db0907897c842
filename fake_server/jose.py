"""Signed tokens: JSON Web Signatures with RS256 (RFC 7515, 7518), and the key that signs the fake's.

The key is in this file for anyone to read: a token that it signed proves nothing, and no real service trusts it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from fake_server.genuine import json
from fake_server.limits import read_json

__all__ = ["ALGORITHM", "JWKS", "claims_of", "sign", "unb64", "verifies"]

ALGORITHM = "RS256"
_KEY_ID = "fake-key-FAKE"
_E = 65537
_P = int(
    "ea9c47b4ff92dc59bbccefa7a2f2bbccf86e50680aa95d7c2c3ea3abf5b1597e"
    "1b0bce7a5310b64764403712d7fd19b227cd98deca68784cf5c918844a90e0b4"
    "bf2434544a4a8d87e30a0e78d4716bafeacf2192d611da40b356bd1be01c448c"
    "7fa03897d616ac167b93f5e713b19ed930464f4a5b57468d8b559af20726702f",
    16,
)
_Q = int(
    "dfb86d923e92a9540bf4bf39c82225c671e7b19adeffa94537fa3914d9c7629f"
    "b83e491109540a280c7d173c85edad0f2adae6714e50340f9d113aa241c1774c"
    "c70f9f45ca6b97beab2b32c479a747590197562dd62dc856cba7304cd838217a"
    "8086bc40e562d987a7b39374ef641a522e2b98d3ebac0e7d7986d8a85e71ed4b",
    16,
)
_N = _P * _Q
_DP, _DQ = (pow(_E, -1, prime - 1) for prime in (_P, _Q))
_Q_INVERSE = pow(_Q, -1, _P)
_DIGESTS = {
    "RS256": ("sha256", bytes.fromhex("3031300d060960864801650304020105000420")),
    "RS384": ("sha384", bytes.fromhex("3041300d060960864801650304020205000430")),
    "RS512": ("sha512", bytes.fromhex("3051300d060960864801650304020305000440")),
}
"""For each algorithm its hash, and the DER prefix of a digest (RFC 8017 section 9.2)."""

_MOST_BITS, _MOST_BITS_OF_E = 16_384, 64
"""Of a modulus and an exponent, as OpenSSL has it: with larger ones a client could keep the service busy for hours."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


JWKS: dict[str, Any] = {
    "keys": [{"kty": "RSA", "use": "sig", "alg": ALGORITHM, "kid": _KEY_ID, "n": _number(_N), "e": _number(_E)}]
}
"""The public key, as a JSON Web Key Set (RFC 7517)."""


def unb64(text: str) -> bytes:
    """The bytes of base64url without padding. Raises ``ValueError``."""
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)


def sign(claims: dict[str, Any], kind: str = "JWT") -> str:
    """A JWT with these claims; ``kind`` is its ``typ``, such as ``at+jwt`` (RFC 9068)."""
    head = {"alg": ALGORITHM, "typ": kind, "kid": _KEY_ID}
    text = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    padded = int.from_bytes(_padded(text.encode(), ALGORITHM, 256), "big")
    # By the Chinese remainder theorem: a quarter of the time of pow(padded, d, n).
    one, other = pow(padded, _DP, _P), pow(padded, _DQ, _Q)
    signature = other + _Q * ((one - other) * _Q_INVERSE % _P)
    return f"{text}.{_b64(signature.to_bytes(256, 'big'))}"


def claims_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a JWT, unverified. Raises ``ValueError``."""
    head, claims = (read_json(unb64(part)) for part in token.split(".")[:2])
    if token.count(".") != 2 or not (isinstance(head, dict) and isinstance(claims, dict)):
        raise ValueError("not a JWT")
    return head, claims


def verifies(token: str, key: dict[str, Any]) -> bool:
    """Whether the RSA key ``key`` (a JWK) has signed ``token``; other keys can't be checked here."""
    text, _, signature = token.rpartition(".")
    try:
        algorithm = claims_of(token)[0].get("alg")
        n, e = (int.from_bytes(unb64(key[name]), "big") for name in ("n", "e"))
        if n.bit_length() > _MOST_BITS or e.bit_length() > _MOST_BITS_OF_E:
            return False
        size = (n.bit_length() + 7) // 8
        expected = _padded(text.encode(), str(algorithm), size)
        return pow(int.from_bytes(unb64(signature), "big"), e, n).to_bytes(size, "big") == expected
    except (KeyError, TypeError, ValueError):
        return False


def _padded(text: bytes, algorithm: str, size: int) -> bytes:
    """The digest of ``text`` with the padding of PKCS #1 v1.5, ``size`` bytes. Raises ``KeyError``."""
    name, prefix = _DIGESTS[algorithm]
    digest = prefix + hashlib.new(name, text).digest()
    return b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
