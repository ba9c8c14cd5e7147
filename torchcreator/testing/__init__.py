"""For tests: fake parameters, a record of what was made, and a check for creators.

The pytest plugin that comes with the package builds its fixtures on these; nothing in here needs
pytest.
"""

from __future__ import annotations

from torchcreator.testing._conformance import assert_creator_conforms
from torchcreator.testing._creators import FakeCreator, RecordingCreator

__all__ = ["FakeCreator", "RecordingCreator", "assert_creator_conforms"]
