"""The batch order proved: its law, the published form, verification, inference, classification of differences."""
