"""That the planted bugs still fit the code; the report shows that each is caught."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.planted import BUGS, Bug, Unplantable, plant
from tests.support.running import ROOT


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_patch_fits(tmp_path: Path, bug: Bug) -> None:
    """Each patch changes its place, once, and what comes of it is Python."""
    target = tmp_path / bug.path
    target.parent.mkdir(parents=True)
    shutil.copy(os.path.join(ROOT, bug.path), target)
    before = target.read_text()
    plant(bug, str(tmp_path))
    assert target.read_text() != before
    compile(target.read_text(), bug.path, "exec")
    with pytest.raises(Unplantable):
        plant(Bug(bug.name, bug.path, "no such line", "", ()), str(tmp_path))
