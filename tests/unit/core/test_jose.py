"""Signed tokens, checked against a library that others trust."""

from __future__ import annotations

import base64
import json

import pytest

from fake_server.jose import JWKS, claims_of, sign, unb64, verifies


def test_a_signature_is_good():
    """And is made by RS256: cryptography agrees."""
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    token, (key,) = sign({"sub": "alice"}, "at+jwt"), JWKS["keys"]
    n, e = (int.from_bytes(unb64(key[name]), "big") for name in ("n", "e"))
    text, _, signature = token.rpartition(".")
    rsa.RSAPublicNumbers(e, n).public_key().verify(unb64(signature), text.encode(), PKCS1v15(), hashes.SHA256())
    assert claims_of(token) == ({"alg": "RS256", "typ": "at+jwt", "kid": key["kid"]}, {"sub": "alice"})
    assert verifies(token, key)


def test_what_was_changed_is_not_good():
    """Nor what another key has signed, nor by an algorithm that is not known."""
    token, (key,) = sign({"sub": "alice"}), JWKS["keys"]
    head, claims, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"sub": "eve"}).encode()).rstrip(b"=").decode()
    nothing = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    assert not verifies(f"{head}.{forged}.{signature}", key)
    assert not verifies(f"{nothing}.{claims}.{signature}", key)
    assert not verifies(token, {**key, "e": "AQ"})
    assert not verifies(token, {"kty": "RSA"})
    assert not verifies("x.y.z", key)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "e30.e30", "e30.W10.x"])
def test_what_is_no_jwt_is_refused(text):
    """As whatever a client may send."""
    with pytest.raises(ValueError):
        claims_of(text)
