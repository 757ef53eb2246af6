"""What methods and metrics share: their fields are their settings, and data say what they are."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pellucid.errors import InputError
from pellucid.facts import Facts, MetricFacts


class AbstractSettings(BaseModel):
    """Something that is made by its settings. Raises InputError, one sentence, on a bad or unknown one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    facts: ClassVar[Facts | MetricFacts]

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            known = ", ".join(type(self).model_fields) or "none"
            raise InputError.from_validation(f"{self.facts.name} (settings: {known})", error) from None
