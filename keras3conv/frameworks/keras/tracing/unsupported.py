"""Define the exception for a call that a trace does not support with these arguments, though with others."""


class UnsupportedCall(NotImplementedError):
    """Raised in a trace for a call with an argument that is not supported; the message says which values are.

    Attributes:
        line: The argument with a supported value, as code to paste: "kernel_size=(5, 5)"; empty if there is none.
    """

    def __init__(self, called: str, found: str, supported: str, line: str = "") -> None:
        """Create the exception.

        Args:
            called: The function or the layer: "keras.ops.image.gaussian_blur".
            found: What is not supported: "kernel_size=(4, 4)".
            supported: What is supported, as a sentence without a subject: "use a square kernel of odd size".
            line: The argument with a supported value, as code to paste.
        """
        super().__init__(f"{called}: {found} is not supported; {supported}")
        self.line = line
