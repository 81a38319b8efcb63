"""What every table of the file is: its keys are known, and its values are of their own types."""

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    def given(self, *names: str) -> dict[str, Any]:
        """What the file says, of these keys or of all; what it leaves out keeps the default of whom it is for."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name in self.model_fields_set and (not names or name in names)
        }
