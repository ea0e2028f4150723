"""Publish a trained model: its folder and card, the Hub, a Space; and trackers that follow a training."""
