"""llamaproxy: one OpenAI-compatible address in front of every llama-server on the box."""

__version__ = "0.1.0"
