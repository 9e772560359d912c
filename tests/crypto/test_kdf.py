from __future__ import annotations

from raychat.crypto.kdf import hkdf


def test_it_gives_the_bytes_of_rfc_5869() -> None:
    # Appendix A, test cases 1 and 3.
    secret = bytes((0x0B,)) * 22
    assert hkdf(secret, bytes(range(0xF0, 0xFA)), 42, bytes(range(13))).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert hkdf(secret, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_no_salt_is_thirty_two_zero_bytes() -> None:
    assert hkdf(b"secret", b"info", 80) == hkdf(b"secret", b"info", 80, bytes(32))
