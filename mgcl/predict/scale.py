"""How many pixels of an image a window spans, so that objects are seen at one scale everywhere."""

from collections.abc import Callable

from mgcl.images.base import Raster

ALIKE = 0.02  # resolutions that differ by less are one


class Scale:
    """Windows of one size on the ground, as far as the images know their resolution."""

    def __init__(
        self, pixels: int, metres: float | None = None, say: Callable[[str], object] = print
    ) -> None:
        """`pixels` of the first support, or, where it is given, `metres` on the ground."""
        self.pixels, self.metres, self.say = pixels, metres, say
        self.reference: float | None = None
        self._said: set[str] = set()

    def support(self, raster: Raster) -> int:
        """Pixels of a support that a window spans; the first of known resolution is the measure.

        Raises:
            ValueError: metres are asked for, and the image does not know its resolution.
        """
        if self.reference is None:
            self.reference = raster.metres
        return self.query(raster)

    def query(self, raster: Raster) -> int:
        """Pixels of a query that a window spans.

        Raises:
            ValueError: as `support`.
        """
        if self.metres is not None:
            if raster.metres is None:
                raise ValueError(
                    f"{raster.path} does not say how large its pixels are: give --window in pixels "
                    "instead of --window-metres"
                )
            return max(1, round(self.metres / raster.metres))
        if self.reference is None or raster.metres is None:
            return self.pixels
        ratio = self.reference / raster.metres
        if abs(ratio - 1) < ALIKE:
            return self.pixels
        scaled = max(1, round(self.pixels * ratio))
        text = (
            f"{raster.path.name}: {raster.metres:.3g} m a pixel, the supports {self.reference:.3g} "
            f"m: windows of {scaled} pixels instead of {self.pixels}, so that objects look as large"
        )
        if text not in self._said:
            self._said.add(text)
            self.say(text)
        return scaled
