from __future__ import annotations

import raychat.crypto


def test_every_exported_name_is_there_and_sorted() -> None:
    names = raychat.crypto.__all__
    assert list(names) == sorted(names)
    assert all(getattr(raychat.crypto, name) is not None for name in names)
