"""The broker's own CAs, and what they publish."""
