"""Few-shot image classification experiments: data, networks, adaptation, episodic evaluation and reports."""

__version__ = "0.1.0"
