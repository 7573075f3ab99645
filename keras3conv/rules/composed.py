"""Name the functions of `keras.ops` that a trace replaces by other functions of `keras.ops`."""

CHOICES = ("cond", "switch")
"""The functions that choose among functions: all are computed, and their results are chosen with `where`."""

LOOPS = ("associative_scan", "map", "vectorized_map")
"""The functions that call a function for each part of a tensor: it is called for each part, of a fixed number."""

IMAGES = (*("affine_transform", "gaussian_blur", "hsv_to_rgb", "map_coordinates", "sobel_edges"),)
"""The functions of `keras.ops.image` that are computed with other functions."""

OTHERS = ("extract_sequences", "linspace", "rearrange", "trapezoid", "unravel_index", "vander")

COMPOSED = frozenset(f"keras.ops.{name}" for name in (*CHOICES, *LOOPS, *OTHERS)) | frozenset(
    f"keras.ops.image.{name}" for name in IMAGES
)
"""The public names of all these functions."""
