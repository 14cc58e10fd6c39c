"""What the numbers of records can be: a type, the least and the most, to which files are held."""

from __future__ import annotations

import math
from typing import Annotated

Size = Annotated[float, (0.0, math.inf)]
Count = Annotated[int, (0, math.inf)]
Fraction = Annotated[float, (0.0, 1.0)]
