"""A file made to attack runs no code, reads no secret, writes nothing outside its folder."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from deblur.faults.attacks import try_attack
from deblur.faults.hostile import ATTACKS, SECRET, VARIABLE, Attack, replaced

# What takes least; `scripts/faults.py attacks` uses all.
_QUICK = ("weights", "load", "summary", "psfs")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_harmless(attack, whole, tmp_path, tiny_root):
    quick = [use for use in attack.uses if use in _QUICK] or attack.uses[:1]
    assert try_attack(replace(attack, uses=tuple(quick)), whole, tmp_path / "attack", tiny_root) is None


def test_an_attack_that_is_none_is_found(whole, tmp_path, tiny_root):
    def missed(run, outside):
        (run / "train.log").write_text(replaced((run / "train.log").read_text(), "no such words", "others"))

    nothing = Attack("code", "does nothing", lambda run, outside: None, ("load",))
    assert "nothing changed" in try_attack(nothing, whole, tmp_path / "one", tiny_root)
    attack = Attack("code", "misses", missed, ("load",))
    assert "was not planted: there is no 'no such words'" in try_attack(attack, whole, tmp_path / "two", tiny_root)


def test_harm_is_found(whole, tmp_path, tiny_root, monkeypatch):
    def write(run, outside):
        (outside / "attacked").touch()

    def harm(run, folder, data):
        write(run, folder / "outside")
        return good(run, folder, data)

    from deblur.faults import attacks

    good = attacks.USES["load"]
    monkeypatch.setitem(attacks.USES, "load", harm)
    attack = Attack("code", "writes", lambda run, outside: (run / "note.txt").touch(), ("load",))
    assert "outside" in try_attack(attack, whole, tmp_path / "one", tiny_root)

    def tell(run, folder, data):
        (run / "train.log").write_text(os.environ[VARIABLE])
        return good(run, folder, data)

    monkeypatch.setitem(attacks.USES, "load", tell)
    assert "secret stands in train.log" in try_attack(attack, whole, tmp_path / "two", tiny_root)
    assert SECRET not in os.environ
