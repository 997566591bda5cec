"""icl-local: in-context learning against instruction tuning, measured on a laptop (arXiv 2503.01611)."""

__version__ = "0.1.0"
