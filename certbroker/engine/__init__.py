"""The engine: a ticker over the work that the database holds."""
