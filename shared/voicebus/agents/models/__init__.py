"""The model layer: the port `RealtimeModel`, what passes over it, and the models that speak the OpenAI protocol."""
