"""The fifteen objects of the synthetic scenes, each with its own geometry, parts and textures.

A painter draws one object into its frame, in unit coordinates: x along the object, -1 to 1, and y
across, as wide as the kind's `aspect`. It paints the picture and marks the label.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mgcl.datasets.synthetic.grounds import (
    baseball_diamond,
    basketball_court,
    ground_track_field,
    soccer_ball_field,
    swimming_pool,
    tennis_court,
)
from mgcl.datasets.synthetic.pen import Pen
from mgcl.datasets.synthetic.structures import bridge, harbor, roundabout, storage_tank
from mgcl.datasets.synthetic.vehicles import helicopter, large_vehicle, plane, ship, small_vehicle


@dataclass(frozen=True)
class Kind:
    """How the scenes use an object.

    `aspect`: half the width in unit coordinates; `area`: labelled area in unit coordinates;
    `counts`: fewest and most in a group; `shares`: least and most of the scene that the group
    covers; `grounds`: the grounds that it stands on.
    """

    draw: Callable[[Pen], None]
    aspect: float
    area: float
    counts: tuple[int, int]
    shares: tuple[float, float]
    grounds: tuple[str, ...]


ANCHORED = (roundabout, bridge, harbor)  # drawn first: they take their place, others go round them
FIRM = ("paving", "soil", "grass", "suburb")
GREEN = ("grass", "crops", "suburb", "soil")
KINDS = (  # in the id order of iSAID-5i
    Kind(ship, 0.28, 0.92, (1, 4), (0.06, 0.2), ("sea", "coast", "river")),
    Kind(storage_tank, 1.0, 3.1, (1, 6), (0.08, 0.28), FIRM),
    Kind(baseball_diamond, 1.2, 2.4, (1, 1), (0.12, 0.3), GREEN),
    Kind(tennis_court, 0.56, 2.24, (1, 4), (0.1, 0.3), FIRM),
    Kind(basketball_court, 0.56, 2.24, (1, 2), (0.1, 0.28), FIRM),
    Kind(ground_track_field, 0.52, 1.85, (1, 1), (0.14, 0.3), GREEN),
    Kind(bridge, 0.11, 0.44, (1, 1), (0.08, 0.16), ("river",)),
    Kind(large_vehicle, 0.23, 0.88, (2, 7), (0.06, 0.2), ("paving", "soil", "suburb")),
    Kind(small_vehicle, 0.43, 1.65, (3, 12), (0.06, 0.2), ("paving", "soil", "suburb")),
    Kind(helicopter, 0.85, 0.7, (1, 3), (0.05, 0.12), ("paving", "grass", "soil")),
    Kind(swimming_pool, 0.6, 1.8, (1, 3), (0.05, 0.2), ("suburb", "grass", "paving")),
    Kind(roundabout, 1.0, 3.1, (1, 1), (0.12, 0.3), ("grass", "suburb", "crops", "soil")),
    Kind(soccer_ball_field, 0.64, 2.56, (1, 1), (0.14, 0.3), GREEN),
    Kind(plane, 0.95, 0.85, (1, 4), (0.06, 0.18), ("paving", "grass", "soil")),
    Kind(harbor, 0.52, 0.8, (1, 2), (0.07, 0.18), ("coast",)),
)
