"""Each alarm that can be raised is explained to who runs the router, and no other."""

import re
from pathlib import Path

import hpp_middleware
from hpp_middleware.types.events import Alarm

PACKAGE = Path(hpp_middleware.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def test_the_page_of_figures_explains_each_alarm_that_there_is() -> None:
    section = PAGE.read_text("utf-8").partition("## Alarms")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    named = re.findall(r"``(\w+)``", (Alarm.__doc__ or "").partition("kind:")[2].partition("request_id:")[0])
    raised = {
        kind for path in PACKAGE.rglob("*.py") for kind in re.findall(r'Alarm\(kind="(\w+)"', path.read_text("utf-8"))
    }
    assert len(raised) > 5
    assert raised <= set(named)
    assert sorted(explained) == sorted(named)
