"""The local record of sessions and chunks: what lets a killed upload go on. `base` holds the promises."""
